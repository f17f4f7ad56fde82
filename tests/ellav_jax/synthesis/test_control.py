"""What a control does to the phones of a sentence, by hand."""

import dataclasses

import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.frontend.word_spans import PhonedText, WordSpan
from ellav_jax.synthesis.control import Control, Duration, Pause, Pronunciation, make_plan

# "Press one, one please." behind a prompt that ends with silence.
PHONED = PhonedText(
    ("P", "R", "EH", "S", "W", "AH", "N", "SIL", "W", "AH", "N", "P", "L", "IY", "Z", "SIL"),
    (WordSpan("press", 0, 4), WordSpan("one", 4, 7), WordSpan("one", 8, 11), WordSpan("please", 11, 15)),
)
FREE = (None,) * 16


@pytest.fixture(scope="module")
def frontend():
    return default_frontend()


@pytest.fixture(scope="module")
def plan(frontend):
    def make(**control):
        return make_plan(Control(**control), PHONED, frontend)

    return make


def test_nothing_asked_for_leaves_everything_free(plan):
    made = plan()
    assert made.phoned == PHONED
    assert (made.floors, made.caps, made.speed) == (FREE, FREE, 1.0)


@pytest.mark.parametrize(
    "target, places",
    [
        ({"phones": (2, 2)}, [2]),
        ({"phones": (5, 8)}, [5, 6, 7, 8]),
        ({"word": "please"}, [11, 12, 13, 14]),
        ({"word": "PLEASE", "phone": 2}, [13]),
        ({"word": 2, "phone": 0}, [8]),
        ({"every": ("SIL", "AH")}, [5, 7, 9, 15]),
    ],
)
def test_a_duration_finds_its_phones(plan, target, places):
    made = plan(durations=(Duration(3, 9, **target),))
    assert [place for place, floor in enumerate(made.floors) if floor == 3] == places
    assert [place for place, cap in enumerate(made.caps) if cap == 9] == places


def test_of_durations_for_one_phone_the_last_counts_and_lists_below_them(plan):
    made = plan(
        floors=(7,) * 16,
        caps=(8,) * 16,
        durations=(Duration(None, 9, phones=(0, 3)), Duration(12, 12, phones=(2, 2))),
    )
    assert made.floors == (None, None, 12, None, *(7,) * 12)
    assert made.caps == (9, 9, 12, 9, *(8,) * 12)


def test_a_pronunciation_replaces_a_word_or_a_phone_of_it_and_moves_what_follows(plan):
    made = plan(
        pronunciations=(Pronunciation("press", ("P", "R")), Pronunciation(2, ("AA", "T"), phone=1)),
        durations=(Duration(5, 5, word="please", phone=0),),
    )
    assert " ".join(made.phoned.phones) == "P R W AH N SIL W AA T N P L IY Z SIL"
    assert [(word.begin, word.end) for word in made.phoned.words] == [(0, 2), (2, 5), (6, 10), (10, 14)]
    assert made.floors.index(5) == 10


def test_pauses_are_inserted_stretched_and_taken_out(plan):
    made = plan(
        pauses=(Pause(3, 0), Pause("press", 30), Pause(1, 12)),
        durations=(Duration(None, 20, every=("SIL",)), Duration(5, 5, word=3, phone=0)),
    )
    assert " ".join(made.phoned.phones) == "P R EH S SIL W AH N SIL W AH N P L IY Z"
    assert [(word.begin, word.end) for word in made.phoned.words] == [(0, 4), (5, 8), (9, 12), (12, 16)]
    assert (made.floors[4], made.caps[4], made.floors[8], made.caps[8]) == (30, 30, 12, 12)
    assert made.floors.index(5) == 12


def test_phones_may_stand_in_place_of_a_text(plan):
    made = plan(phones=("SIL", "HH", "AY"), floors=(None, 4, 9), caps=(None, 4, 9))
    assert made.phoned == PhonedText(("SIL", "HH", "AY"))
    assert made.floors == made.caps == (None, 4, 9)


@pytest.mark.parametrize(
    "control, message",
    [
        ({"pronunciations": (Pronunciation("press", ("P", "EHH")),)}, r"no phone 'EHH' .*did you mean .*\bEH\b"),
        ({"phones": ("XYZ",)}, r"no phone 'XYZ' in the inventory"),
        ({"pronunciations": (Pronunciation("press", ("SIL",)),)}, "ask for a pause after a word"),
        ({"pronunciations": (Pronunciation("press", ()),)}, "no phones for 'press'"),
        (
            {"pronunciations": (Pronunciation("press", ("P",), phone=4),)},
            r"no phone 4 in 'press', which has P R EH S \(0",
        ),
        ({"pauses": (Pause("two", 3),)}, "no word 'two' .*0 press, 1 one, 2 one, 3 please"),
        ({"pauses": (Pause("one", 3),)}, "has 'one' more than once"),
        ({"pauses": (Pause(4, 3),)}, "no word 4"),
        ({"durations": (Duration(3, 3, phones=(16, 16)),)}, "no phone 16; the sentence has 16, 0 to 15"),
        ({"durations": (Duration(3, 3, phones=(9, 20)),)}, "no phones 9 to 20"),
        ({"durations": (Duration(3, 3, every=("A",)),)}, "no phone 'A' in the inventory .did you mean"),
        ({"floors": (3, 4)}, r"2 floors \(frames\) for 16 phones"),
    ],
)
def test_what_can_t_be_met_is_refused_in_one_clear_line(plan, control, message):
    with pytest.raises(InputError, match=message):
        plan(**control)


def test_pauses_are_refused_where_silence_is_no_phone(frontend):
    other = dataclasses.replace(frontend, silence_as_phone=False)
    with pytest.raises(InputError, match="silence is no phone"):
        make_plan(Control(pauses=(Pause(0, 9),)), PHONED, other)
