import re

import pytest

from data_pipelines.corpora.made_sentences import made_sentence
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.frontend import default_frontend


@pytest.fixture(scope="module")
def sentences():
    return [made_sentence("train", number) for number in range(2000)]


def test_a_sentence_is_a_function_of_its_series_and_number():
    assert made_sentence("train", 0) == "Last night, the player paused always beneath the valley."
    assert made_sentence("train", 2) == (
        "Her curious cousin patiently liked your brown kite beneath the nice tower, but Barbara kept their strange journal."
    )
    assert made_sentence("test", 0) != made_sentence("train", 0)


def test_series_hardly_share_a_sentence(sentences):
    assert len(set(sentences)) > 0.999 * len(sentences)
    assert not set(sentences) & {made_sentence("test", number) for number in range(60)}


def test_sentences_are_of_a_length_that_fills_rows_and_written_as_sentences_are(sentences):
    lengths = [len(sentence.split()) for sentence in sentences]
    assert min(lengths) >= 4
    assert max(lengths) <= 22
    assert 9 < sum(lengths) / len(lengths) < 11
    assert all(re.fullmatch(r"[A-Z][A-Za-z]*(,? [A-Za-z]+)*[.?]", sentence) for sentence in sentences)


def test_every_word_is_in_the_aligners_dictionary(sentences):
    analyzer = TextAnalyzer(default_frontend())
    words = {word.text: word for sentence in sentences for word in analyzer.words(sentence)}
    assert len(words) > 700
    assert [word.text for word in words.values() if not word.in_dictionary] == []
