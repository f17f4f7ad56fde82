"""Which parts of a recording stay, by hand."""

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.word_spans import PhonedText, WordSpan
from ellav_jax.synthesis.control import Control, Duration, Pause, Plan, Pronunciation
from ellav_jax.synthesis.editing import Part, merge_silences, plan_edit, words_asked


def _phoned(written):
    """ "SIL a:AH b:B,EH SIL" → phones and words."""
    phones, words = [], []
    for one in written.split():
        name, _, parts = one.rpartition(":")
        begin = len(phones)
        phones += parts.split(",")
        if name:
            words.append(WordSpan(name, begin, len(phones)))
    return PhonedText(tuple(phones), tuple(words))


def _edit(old, new, asked=()):
    recording, text = _phoned(old), _phoned(new)
    free = (None,) * len(text.phones)
    edit = plan_edit(recording.phones, recording.words, Plan(text, free, free), frozenset(asked))
    phones = []
    for part in edit.parts:
        source = recording if part.kept else text
        phones += [phone.lower() if part.kept else phone for phone in source.phones[part.begin : part.end]]
    words = [(one.text, " ".join(phones[one.begin : one.end])) for one in edit.words]
    return " ".join(phones), words


OLD = "SIL press:P,R one:W,AH SIL now:N,AW SIL"


@pytest.mark.parametrize(
    "new, expected",
    [
        ("SIL press:P,R two:T,UW now:N,AW SIL", "sil p r T UW sil n aw sil"),  # the recording's pause stays
        ("SIL hold:HH,OW one:W,AH now:N,AW SIL", "sil HH OW w ah sil n aw sil"),
        ("SIL press:P,R one:W,AH then:DH SIL", "sil p r w ah sil DH sil"),
        ("SIL press:P,R any:EH SIL key:K,IY now:N,AW SIL", "sil p r EH SIL K IY sil n aw sil"),
        ("SIL press:P,R now:N,AW SIL", "sil p r sil n aw sil"),  # taken out
        ("SIL press:P,R one:W,AH now:N,AW please:P,L SIL", "sil p r w ah sil n aw P L sil"),
        ("SIL please:P,L press:P,R one:W,AH now:N,AW SIL", "sil P L p r w ah sil n aw sil"),
        ("SIL press:P,R one:W,AH SIL do:D,UW now:N,AW SIL", "sil p r w ah sil D UW n aw sil"),  # behind the pause
        ("SIL press:P,R one:W,AH two:T,UW now:N,AW SIL", "sil p r w ah T UW sil n aw sil"),  # ahead of it
        ("SIL hold:HH,OW one:W,AH then:DH SIL", "sil HH OW w ah sil DH sil"),
    ],
)
def test_words_that_differ_are_spoken_and_all_else_is_kept(new, expected):
    phones, words = _edit(OLD, new)
    assert phones == expected
    assert [text for text, _ in words] == [one.text for one in _phoned(new).words]
    spelled = {one.text: " ".join(_phoned(new).phones[one.begin : one.end]) for one in _phoned(new).words}
    assert {text: found.upper() for text, found in words} == spelled


def test_a_word_may_be_spoken_anew_though_the_text_is_the_same():
    assert _edit(OLD, OLD, asked=[1])[0] == "sil p r W AH sil n aw sil"
    assert _edit(OLD, OLD, asked=[0, 1])[0] == "sil P R W AH sil n aw sil"


def test_changes_that_touch_are_one():
    recording, text = _phoned(OLD), _phoned("SIL hold:HH,OW one:W,AH now:N,AW SIL")
    free = (None,) * len(text.phones)
    edit = plan_edit(recording.phones, recording.words, Plan(text, free, free), frozenset([1]))
    assert edit.parts == (Part(True, 0, 1), Part(False, 1, 5), Part(True, 5, 9))


def test_an_edit_of_nothing_or_of_everything_is_refused():
    with pytest.raises(InputError, match="the new text has the words that the recording has"):
        _edit(OLD, OLD)
    with pytest.raises(InputError, match="no word of the recording stays"):
        _edit(OLD, "SIL hold:HH,OW SIL")


def test_silences_that_meet_become_one():
    phones, durations, words = merge_silences(
        ["SIL", "P", "SIL", "SIL", "W", "SIL"], np.array([3, 2, 4, 5, 1, 2]), [WordSpan("p", 1, 2), WordSpan("w", 4, 5)]
    )
    assert phones == ["SIL", "P", "SIL", "W", "SIL"]
    assert durations.tolist() == [3, 2, 9, 1, 2]
    assert words == (WordSpan("p", 1, 2), WordSpan("w", 3, 4))


def test_what_can_be_asked_of_a_recording():
    phoned = _phoned(OLD)
    control = Control(pronunciations=(Pronunciation("now", ("N",)),), durations=(Duration(3, 3, word=0, phone=1),))
    assert words_asked(control, phoned) == {0, 2}
    for refused in (
        Control(speed=2.0),
        Control(pauses=(Pause(0, 3),)),
        Control(durations=(Duration(3, 3, phones=(0, 1)),)),
        Control(floors=(3,) * 9),
    ):
        with pytest.raises(InputError, match="an edit takes"):
            words_asked(refused, phoned)
