import pytest

from data_pipelines.corpora import CorpusOptions, open_corpus
from ellav_jax.errors import InputError


def _listed(root, **options):
    corpus = open_corpus(f"ljspeech:{root}", CorpusOptions(**options))
    return corpus, [(one.id, one.text, one.speaker, one.fault and one.fault.kind) for one in corpus.utterances]


def test_the_normalised_text_is_taken(tmp_path, put):
    for index in range(3):
        put(tmp_path / f"wavs/LJ001-000{index}.wav", index)
    put(
        tmp_path / "metadata.csv",
        'LJ001-0000|Printing, in 1455|Printing, in fourteen fifty-five\nLJ001-0001|"Quoted|"Quoted\nLJ001-0002|Only raw\n',
    )
    corpus, found = _listed(tmp_path)
    assert found == [
        ("LJ001-0000", "Printing, in fourteen fifty-five", "LJ", None),
        ("LJ001-0001", '"Quoted', "LJ", None),
        ("LJ001-0002", "Only raw", "LJ", None),
    ]
    assert corpus.licence == "public domain"
    assert all(len(one.audio.read()[0]) for one in corpus.utterances)


def test_what_does_not_fit_is_yielded_with_its_fault(tmp_path, put):
    for name in ("a.wav", "c.wav", "d.flac", "d.wav", "e.wav", "f.wav"):
        put(tmp_path / "my voice" / "wavs" / name, 0)
    put(tmp_path / "my voice" / "metadata.csv", b"\xef\xbb\xbfa|fine\r\n\r\nb|gone|gone\nc\nd|x|\xe9t\xe9\ne|x|\n")
    corpus, found = _listed(tmp_path / "my voice")
    assert found == [
        ("a", "fine", "my voice", None),
        ("b", "gone", "my voice", "audio-missing"),
        ("c", "", "my voice", "text-missing"),
        ("d", "", "my voice", "text-encoding"),
        ("e", "", "my voice", "text-empty"),
        ("d", "", "my voice", "duplicate-id"),
        ("f", "", "my voice", "text-missing"),
    ]
    assert corpus.licence == corpus.attribution == "unknown (given by the user)"


def test_about_one_in_a_hundred_is_held_out_by_its_id(tmp_path, put):
    (tmp_path / "wavs").mkdir()
    put(tmp_path / "metadata.csv", "".join(f"LJ{i // 100:03d}-{i % 100:04d}|hello|hello\n" for i in range(13100)))
    splits = {one.id: one.split for one in open_corpus(f"ljspeech:{tmp_path}").utterances}
    assert set(splits.values()) == {"train", "test"}
    assert 90 <= sum(split == "test" for split in splits.values()) <= 180
    put(tmp_path / "metadata.csv", "LJ000-0000|hello|hello\nLJ130-0099|hello|hello\n")
    for one in open_corpus(f"ljspeech:{tmp_path}").utterances:
        assert one.split == splits[one.id]


@pytest.mark.parametrize(
    ("there", "message"),
    [
        ((), r"there is no metadata.csv"),
        (("metadata.csv",), "there is no wavs/"),
        (("metadata.csv", "wavs"), "nothing found"),
    ],
)
def test_another_layout_and_an_empty_one_are_refused(tmp_path, put, there, message):
    if "metadata.csv" in there:
        put(tmp_path / "metadata.csv", "")
    if "wavs" in there:
        (tmp_path / "wavs").mkdir()
    with pytest.raises(InputError, match=message) as caught:
        open_corpus(f"ljspeech:{tmp_path}")
    assert "id|text|normalised text" in str(caught.value)
