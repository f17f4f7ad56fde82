"""Where sentences end."""

import pytest

from ellav_jax.synthesis.sentences import fitting_parts, split_sentences

# "|" stands where a sentence ends.
TEXTS = [
    "Press one.| Press two!| Or three?| Thanks.",
    "Mr. Smith met Dr. Jones at 5 p.m. in St. Louis.| They left.",
    "He works for the U.S. Army.| She lives in the U.S.| They met in June.",
    "It costs $3.50 at No. 5 Main St.| Then she said no.| It was late.",
    'She said: "Stop."| He did not.',
    "“Stop!” she said.| J. R. Smith, Jr. was there.| I was too.",
    "1. First of all, wait.| 2. Then go.",
    "Wait... what?| Yes.",
    "See e.g. Fig. 3 and pp. 4 to 6, i.e. Sec. 2.| The rest follows.",
    "First paragraph\nover two lines|\n\nSecond paragraph",
    "Bring tea, milk, etc.| The shop is open.",
]


@pytest.mark.parametrize("marked", TEXTS)
def test_english_sentences(marked):
    expected = [" ".join(part.split()) for part in marked.split("|")]
    assert split_sentences(marked.replace("|", ""), "en-us") == expected


def test_other_languages_and_scripts():
    assert split_sentences("Das ist A. Das ist gut. Ja? Nein!", "de") == ["Das ist A. Das ist gut.", "Ja?", "Nein!"]
    assert split_sentences("你好。再见！", "cmn") == ["你好。", "再见！"]


def test_what_has_no_words_is_left_out():
    assert split_sentences("One.\n\n* * *\n\nTwo. …", "en-us") == ["One.", "Two."]
    assert split_sentences(" \n\n … ", "en-us") == []


def test_long_sentences_are_cut_at_the_punctuation_nearest_the_middle_then_at_spaces():
    sentence = "one two, three four five; six seven eight, nine ten"
    assert fitting_parts(sentence, lambda part: len(part) <= 26) == [
        "one two, three four five;",
        "six seven eight, nine ten",
    ]
    parts = fitting_parts(sentence, lambda part: len(part.split()) <= 2)
    assert all(len(part.split()) <= 2 for part in parts)
    assert " ".join(parts) == sentence
    assert fitting_parts("unbreakable", lambda part: False) == ["unbreakable"]
