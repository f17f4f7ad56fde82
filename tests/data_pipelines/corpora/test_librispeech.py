import numpy as np
import pytest

from data_pipelines.corpora import open_corpus
from ellav_jax.errors import InputError


@pytest.fixture
def librispeech(tmp_path, put):
    """Two splits as openslr.org/12 unpacks them, with real speech in FLAC."""
    root = tmp_path / "LibriSpeech"
    lines = {}
    chapter = "train-clean-100/103/1240/103-1240"
    for index, name in enumerate([f"{chapter}-0000", f"{chapter}-0001", "dev-other/116/288/116-288-0000"]):
        put(root / f"{name}.flac", index)
        folder, stem = name.rsplit("/", 1)
        trans = f"{folder}/{'-'.join(stem.split('-')[:2])}.trans.txt"
        lines[trans] = lines.get(trans, "") + f"{stem} I'LL SAY NUMBER {'ABC'[index]}\n"
    for name, content in lines.items():
        put(root / name, content)
    put(root / "SPEAKERS.TXT", "; the speakers")
    return tmp_path


@pytest.mark.parametrize("below", ["", "LibriSpeech"])
def test_the_folder_above_and_the_corpus_itself_are_both_found(librispeech, below, clips):
    corpus = open_corpus(f"librispeech:{librispeech / below}")
    found = list(corpus.utterances)
    assert [(one.id, one.speaker, one.split) for one in found] == [
        ("116-288-0000", "116", "dev"),
        ("103-1240-0000", "103", "train"),
        ("103-1240-0001", "103", "train"),
    ]
    assert all(one.fault is None for one in found)
    wave, rate = found[2].audio.read()
    assert rate == 16000
    np.testing.assert_allclose(wave, clips[1] / 32768, atol=1e-7)
    assert corpus.licence == "CC BY 4.0"
    assert corpus.attribution.startswith("LibriSpeech (")
    assert list(corpus.utterances) == found


def test_one_split_alone_is_read(librispeech):
    corpus = open_corpus(f"librispeech:{librispeech / 'LibriSpeech' / 'dev-other'}")
    assert [(one.id, one.split) for one in corpus.utterances] == [("116-288-0000", "dev")]


def test_capitals_are_lower_cased_so_that_no_word_passes_for_initials(librispeech):
    (one,) = open_corpus(f"librispeech:{librispeech / 'LibriSpeech' / 'dev-other'}").utterances
    assert one.text == "i'll say number c"


def test_what_a_chapter_lacks_is_yielded_with_its_fault(librispeech, put):
    chapter = librispeech / "LibriSpeech" / "dev-other" / "116" / "288"
    put(chapter / "116-288-0001.flac", 3)  # not in the transcripts
    put(chapter / "116-288-0003.flac", 4)
    put(chapter / "116-288-0003.wav", 4)
    put(chapter / "116-288-0004.flac", 4)
    put(
        chapter / "116-288.trans.txt",
        b"\xef\xbb\xbf116-288-0000 FINE\r\n\r\n116-288-0002 NO RECORDING\n116-288-0003 \xff\xfe\n116-288-0004\n",
    )
    found = list(open_corpus(f"librispeech:{librispeech / 'LibriSpeech' / 'dev-other'}").utterances)
    assert [(one.id, one.text, one.fault and one.fault.kind) for one in found] == [
        ("116-288-0000", "fine", None),
        ("116-288-0001", "", "text-missing"),
        ("116-288-0002", "no recording", "audio-missing"),
        ("116-288-0003", "", "text-encoding"),
        ("116-288-0003", "", "duplicate-id"),
        ("116-288-0004", "", "text-empty"),
    ]
    assert "116-288.trans.txt, line 4" in found[3].fault.detail


def test_libritts_has_a_normalised_text_beside_each_recording(tmp_path, put):
    folder = tmp_path / "LibriTTS_R" / "train-other-500" / "14" / "208"
    for index in range(3):
        put(folder / f"14_208_000001_00000{index}.wav", index)
    put(folder / "14_208_000001_000000.normalized.txt", "Mister Smith's PBX rang.")
    put(folder / "14_208_000001_000000.original.txt", "Mr. Smith's PBX rang.")
    put(folder / "14_208_000001_000001.original.txt", "Only the original.")
    put(folder / "14_208.trans.tsv", "14_208_000001_000000\tx\ty")
    corpus = open_corpus(f"librispeech:{tmp_path}")
    assert [(one.id, one.text, one.speaker, one.split, one.fault and one.fault.kind) for one in corpus.utterances] == [
        ("14_208_000001_000000", "Mister Smith's PBX rang.", "14", "train", None),
        ("14_208_000001_000001", "Only the original.", "14", "train", None),
        ("14_208_000001_000002", "", "14", "train", "text-missing"),
    ]
    assert corpus.attribution.startswith("LibriTTS (")


def test_another_layout_and_an_empty_one_are_refused(tmp_path, put):
    put(tmp_path / "speech/anna/a.wav", 0)
    with pytest.raises(
        InputError, match="not laid out as LibriSpeech or LibriTTS; expected a folder with train-clean-100"
    ):
        open_corpus(f"librispeech:{tmp_path / 'speech'}")
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(InputError, match=r"nothing found; expected in .*dev-clean SPEAKER/CHAPTER/\*.flac"):
        open_corpus(f"librispeech:{tmp_path / 'dev-clean'}")
    with pytest.raises(InputError, match="no such folder; expected a folder with train-clean-100"):
        open_corpus(f"librispeech:{tmp_path / 'nowhere'}")
