"""Readings of numbers, abbreviations, letters and symbols; a comma marks a pause, "p." a letter name."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ellav_jax.errors import InputError
from ellav_jax.frontend.dictionary import Dictionary
from ellav_jax.frontend.normalizer import spoken_words

PAUSE_MARKS = ",;:.!?…—"

READINGS = [
    ("'cause", "'cause"),
    ("5'", "five"),
    ("I'm 5 ft. tall", "i'm five feet tall"),
    ("I'm at 3 PM, call me.", "i'm at three p. m., call me,"),
    ("It's 5 o'clock", "it's five o'clock"),
    ("dogs' tails", "dogs' tails"),
    ("the '90s", "the nineties"),
    ("$3 million", "three million dollars"),
    ("(555) 123-4567", "five five five, one two three, four five six seven"),
    ("-5 degrees", "minus five degrees"),
    ("007", "zero zero seven"),
    ("1,000,000", "one million"),
    ("1,234 people", "one thousand two hundred thirty four people"),
    ("1,234.56", "one thousand two hundred thirty four point five six"),
    ("1-800-555-1234", "one, eight zero zero, five five five, one two three four"),
    ("1.5x", "one point five x"),
    ("1/2 cup", "one half cup"),
    ("10-20 items", "ten to twenty items"),
    ("100 times", "one hundred times"),
    ("10k", "ten thousand"),
    ("12345678", "one two three four five six seven eight"),
    ("20°C", "twenty degrees celsius"),
    ("24/7", "twenty four seven"),
    ("2nd", "second"),
    ("3.14", "three point one four"),
    ("3D audio disabled", "three d. audio disabled"),
    ("5 kg", "five kilograms"),
    ("5/3/2024", "may third twenty twenty four"),
    ("50%", "fifty percent"),
    ("5:30-6:30", "five thirty to six thirty"),
    ("<beep> hello [noise]", "hello"),
    ("A.M.", "a. m.,"),
    ("AT&T", "a. t. and t."),
    ("Call me at 5pm", "call me at five p. m."),
    ("De-activated.", "deactivated,"),
    ("Dr. Smith lives on Elm St.", "doctor smith lives on elm street"),
    ("H.323", "h. three two three"),
    ("Henry VIII was king", "henry the eighth was king"),
    ("Henry VIII", "henry the eighth"),
    ("IAX", "i. a. x."),
    ("It costs $5.", "it costs five dollars,"),
    ("It costs $5.20.", "it costs five dollars and twenty cents,"),
    ("J. R. R. Tolkien", "j. r. r. tolkien"),
    ("I'LL WAIT. DON'T PRESS THE PBX'S KEY", "i'll wait, don't press the p. b. x.s key"),
    ("January 5, 2024", "january fifth, twenty twenty four"),
    ("M I S D N", "m. i s. d. n."),
    ("Mr. and Mrs. Jones", "mister and mrs jones"),
    ("No. 5", "number five"),
    ("P.M.", "p. m.,"),
    ("PBX", "p. b. x."),
    ("PBXs", "p. b. x.s"),
    ("PIN", "pin"),
    ("PRESS ONE TO REACH THE PBX NOW", "press one to reach the p. b. x. now"),
    ("Ph.D.", "phd,"),
    ("Plan B", "plan b."),
    ("Please press 1 to mute", "please press one to mute"),
    ("Press 1 now. It is 2.", "press one now, it is two,"),
    ("Press 1, 2 or 3...", "press one, two or three,"),
    ("Smith & Sons", "smith and sons"),
    ("St. John", "saint john"),
    ("T-shirt", "t. shirt"),
    ("U.S. troops", "u. s. troops"),
    ("USB Radio", "usb radio"),
    ("Un-indentified", "un indentified"),
    ("Use the 7 key for Q and the 9 key for Z.", "use the seven key for q. and the nine key for z.,"),
    ("VoIP", "voip"),
    ("Wait—no", "wait, no"),
    ("World War II began", "world war two began"),
    ("Wow 🎉 nice", "wow nice"),
    ("a", "a."),
    ("at 10:30 a.m.", "at ten thirty a. m."),
    ("at 3:05 pm", "at three oh five p. m."),
    ("at least a 28.8 kilobit modem", "at least a twenty eight point eight kilobit modem"),
    ("call 555-1234", "call five five five, one two three four"),
    ("desk;I", "desk, i"),
    ("dial 600", "dial six zero zero"),
    ("dial extension 8500 to enter", "dial extension eight five zero zero to enter"),
    ("e.g. apples, i.e. fruit", "for example apples, that is fruit"),
    ("extension 1234 and password 4242.", "extension one two three four and password four two four two,"),
    ("folder 5", "folder five"),
    ("from 1914 to 1918", "from nineteen fourteen to nineteen eighteen"),
    ("g", "g."),
    ("in 1066", "in ten sixty six"),
    ("in 1984", "in nineteen eighty four"),
    ("in 2007", "in two thousand seven"),
    ("mp3", "m. p. three"),
    ("naïve café", "naïve café"),
    ("on the 3rd of May", "on the third of may"),
    ("press * to toggle, press # to enter", "press star to toggle, press pound to enter"),
    ("press 0 for help", "press zero for help"),
    ("re-entered", "re-entered"),
    ("the 1990s", "the nineteen nineties"),
    ("the 21st century", "the twenty first century"),
    ("the US army", "the u. s. army"),
    ("the state is set.", "the state is set,"),
    ("user@example.com", "user at example dot com"),
    ("visit www.asterisk.org.", "visit w. w. w. dot asterisk dot org,"),
    ("you can dial 500 to attempt", "you can dial five zero zero to attempt"),
    ("£3.50", "three pounds and fifty pence"),
    ("½ cup", "one half cup"),
]


@pytest.mark.parametrize(("text", "reading"), READINGS)
def test_text_is_read_as_a_speaker_reads_it(cmudict: Dictionary, text: str, reading: str) -> None:
    words = spoken_words(text, cmudict, PAUSE_MARKS)
    assert " ".join(word.text + ("," if word.pause_after else "") for word in words) == reading


@pytest.mark.parametrize("text", ["", "   ", "...", "🎉🎉", "<beep ascending>", "[noise]", "?!", "— ( )"])
def test_text_without_words_is_refused(cmudict: Dictionary, text: str) -> None:
    with pytest.raises(InputError, match="no words to speak"):
        spoken_words(text, cmudict, PAUSE_MARKS)


@pytest.mark.parametrize("text", ["日本 is Japan", "привет", "العربية"])
def test_other_scripts_are_refused_with_the_word(cmudict: Dictionary, text: str) -> None:
    with pytest.raises(InputError, match="Latin letters"):
        spoken_words(text, cmudict, PAUSE_MARKS)


def test_pause_marks_are_those_of_the_frontend(cmudict: Dictionary) -> None:
    words = spoken_words("Wait, please. Now", cmudict, ".")
    assert [word.pause_after for word in words] == [False, True, False]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["press", "party's", "conference", "o'clock", "hello"]), st.sampled_from([" ", ", "])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_plain_words_come_back_unchanged_with_their_pauses(cmudict: Dictionary, parts: list[tuple[str, str]]) -> None:
    words = spoken_words("".join(word + mark for word, mark in parts), cmudict, PAUSE_MARKS)
    assert [(word.text, word.pause_after) for word in words] == [(word, mark == ", ") for word, mark in parts]


@given(st.text(alphabet=string.ascii_letters + string.digits + " .,:;-'/&$%#*@()<>\"é🎉½", max_size=40))
def test_any_text_is_read_in_plain_words_or_refused(cmudict: Dictionary, text: str) -> None:
    try:
        words = spoken_words(text, cmudict, PAUSE_MARKS)
    except InputError:
        return
    for word in words:
        assert re.fullmatch(r"[a-zéâ]\.s?|[^\W\d_'-]*(?:['-]+[^\W\d_'-]*)*", word.text), word
        assert re.search(r"[^\W\d_]", word.text), word
