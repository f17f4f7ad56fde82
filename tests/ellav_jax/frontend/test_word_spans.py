"""Phones to words and back."""

from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.frontend.word_spans import WordSpan, match_words


def test_words_are_found_with_whatever_pronunciation_and_silence_between():
    words = [("a", [("AH",), ("EY",)]), ("read", [("R", "IY", "D"), ("R", "EH", "D")]), ("to", [("T", "UW")])]
    phones = ["SIL", "EY", "SIL", "R", "EH", "D", "T", "UW", "SIL"]
    assert match_words(phones, words) == (WordSpan("a", 1, 2), WordSpan("read", 3, 6), WordSpan("to", 6, 8))
    assert match_words(["SIL", "EY", "R", "EH", "D", "T"], words) is None
    assert match_words(["SIL", "EY", "R", "EH", "D", "T", "UW", "UW"], words) is None


def test_a_pronunciation_that_begins_another_is_told_from_it_by_what_follows():
    words = [("x", [("T",), ("T", "AH")]), ("y", [("AH", "N"), ("N",)])]
    assert match_words(["T", "AH", "N"], words) is not None
    words = [("x", [("T",), ("T", "AH")]), ("y", [("N",)])]
    assert match_words(["T", "AH", "N"], words) == (WordSpan("x", 0, 2), WordSpan("y", 2, 3))


def test_the_analyzer_tells_whose_phones_are_whose():
    analyzer = TextAnalyzer(default_frontend())
    text = "Press one, please, Mr. Smith."
    phoned = analyzer.phoned(text)
    assert list(phoned.phones) == analyzer.phones(text)
    words = analyzer.words(text)
    assert [span.text for span in phoned.words] == ["press", "one", "please", "mister", "smith"]
    for word, span in zip(words, phoned.words, strict=True):
        assert phoned.phones[span.begin : span.end] == word.phones
    covered = {place for span in phoned.words for place in range(span.begin, span.end)}
    assert all((phone == "SIL") == (place not in covered) for place, phone in enumerate(phoned.phones))
    shorter = phoned.without_first()
    assert [shorter.phones[s.begin : s.end] for s in shorter.words] == [word.phones for word in words]
