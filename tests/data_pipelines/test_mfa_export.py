"""A corpus written for MFA, and the way back from TextGrids to the same phones and durations."""

import dataclasses
import shlex
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_pipelines.corpora import open_corpus
from data_pipelines.corpora.utterance import AudioFile, Corpus, Fault, Utterance
from data_pipelines.mfa_export import mfa_commands, write_mfa
from data_pipelines.textgrid_folder import TextGridFolder
from ellav_jax.errors import InputError
from ellav_jax.frontend.alignment import Aligner
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.dictionary import load_dictionary
from ellav_jax.frontend.durations import frame_durations
from ellav_jax.frontend.frontend import TEXTGRID, default_frontend
from ellav_jax.frontend.intervals import PhoneInterval
from ellav_jax.frontend.inventory import phone_inventory
from ellav_jax.frontend.textgrid import textgrid_intervals
from tests.textgrid_writer import long_textgrid, short_textgrid

GERMAN = {
    "s1/eins": "Guten Morgen, schöne Größe!",
    "s1/zwei": "Das Mädchen hat 21 Äpfel.",
    "s2/drei": "Geht's dir gut? Süd-Deutschland ist schön.",
}
# Each ARPAbet phone by another name, as an aligner in IPA would give it.
NAMES = {phone: f"{phone.lower()}ː" for phone in phone_inventory(stress=False)}


def corpus_of(utterances: Iterable[Utterance]) -> Corpus:
    return dataclasses.replace(open_corpus("bundled"), utterances=list(utterances))


@pytest.fixture(scope="module")
def clips() -> list[Utterance]:
    """Three bundled clips, with ids as folders have them."""
    names = {"conf-full", "hello-world", "vm-goodbye"}
    found = [one for one in open_corpus("bundled").utterances if one.id in names]
    assert len(found) == 3
    return [dataclasses.replace(one, id=f"prompts/{one.id}") for one in found]


@pytest.fixture(scope="module")
def german(clips: list[Utterance], tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """German texts (the recordings say something else: only their files matter here)."""
    items = zip(GERMAN.items(), clips, strict=True)
    return corpus_of(
        dataclasses.replace(clip, id=name, text=text, speaker=name.split("/")[0]) for (name, text), clip in items
    )


def test_recordings_words_and_dictionary_are_written(german: Corpus, tmp_path: Path) -> None:
    summary = write_mfa(german, tmp_path, language="de")
    assert (summary.found, summary.written, summary.kept, summary.faults) == (3, 3, 0, {})
    labs = {path.relative_to(tmp_path).as_posix(): path.read_text("utf-8") for path in tmp_path.rglob("*.lab")}
    assert labs == {
        "corpus/s1/s1__eins.lab": "guten morgen schöne größe\n",
        "corpus/s1/s1__zwei.lab": "das mädchen hat einundzwanzig äpfel\n",
        "corpus/s2/s2__drei.lab": "geht's dir gut süd deutschland ist schön\n",
    }
    lines = (tmp_path / "dictionary.dict").read_text("utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == sorted({word for lab in labs.values() for word in lab.split()})
    assert "mädchen\tm ɛː d ç ə n" in lines
    assert summary.words == len(lines)
    for one in german.utterances:
        wave, rate = one.audio.read()
        info = soundfile.info(tmp_path / "corpus" / one.speaker / f"{one.id.replace('/', '__')}.wav")
        assert (info.samplerate, info.subtype, info.channels, info.frames) == (rate, "PCM_16", 1, len(wave))


def test_the_dictionary_speaks_the_corpus_and_new_texts_of_its_language(german: Corpus, tmp_path: Path) -> None:
    write_mfa(german, tmp_path, language="de")
    path = tmp_path / "dictionary.dict"
    frontend = default_frontend(path, aligner=TEXTGRID, language="de")
    analyzer = TextAnalyzer(frontend, path)
    words = [word for one in german.utterances for word in analyzer.words(one.text)]
    assert all(word.in_dictionary for word in words)
    assert set(frontend.phones[1:]) == {phone for word in words for phone in word.phones}
    assert analyzer.phones("Schönen Morgen") == (
        "SIL ʃ øː n ə n m ɔ ɾ ɡ ə n SIL".split()  # noqa: SIM905 (reads as phones)
    )
    # As MFA would align it: the phones of a text, 80 ms each.
    phones = analyzer.phones(GERMAN["s1/zwei"])[1:-1]
    parts = [(phone, round(0.08 * i, 2), round(0.08 * (i + 1), 2)) for i, phone in enumerate(phones)]
    grid = tmp_path / "aligned" / "s1" / "s1__zwei.TextGrid"
    grid.parent.mkdir(parents=True)
    grid.write_text(long_textgrid({"phones": parts}, parts[-1][2]), encoding="utf-8")
    one = next(one for one in german.utterances if one.id == "s1/zwei")
    found = textgrid_intervals(TextGridFolder(tmp_path / "aligned").path(one), parts[-1][2], frontend)
    assert [item.phone for item in found] == phones
    num_frames = round(75 * parts[-1][2])
    named, durations = frame_durations(found, num_frames, frontend)
    assert (named, durations.sum()) == (phones, num_frames)


@pytest.fixture(scope="module")
def aligned(
    clips: list[Utterance], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, list[PhoneInterval]], str]:
    """The export of `clips`, the alignments of its recordings by id, and a dictionary of their words in `NAMES`."""
    folder = tmp_path_factory.mktemp("export")
    write_mfa(corpus_of(clips), folder)
    analyzer = TextAnalyzer(default_frontend())
    aligner = Aligner(default_frontend(), analyzer)
    alignments, words = {}, {}
    for one in clips:
        wave, rate = soundfile.read(folder / "corpus" / one.speaker / f"{one.id.replace('/', '__')}.wav")
        alignments[one.id] = aligner.align(wave, rate, one.text)
        words |= {word.text: word.pronunciations for word in analyzer.words(one.text)}
    lines = [
        f"{word}\t{' '.join(NAMES[phone] for phone in phones)}\n" for word, items in words.items() for phones in items
    ]
    return folder, alignments, "".join(lines)


@pytest.mark.parametrize("write", [long_textgrid, short_textgrid])
@pytest.mark.parametrize("ipa", [False, True])
def test_textgrids_give_the_phones_and_durations_of_the_alignment_they_hold(
    clips: list[Utterance], aligned, tmp_path: Path, write, ipa: bool
) -> None:
    folder, alignments, ipa_dictionary = aligned
    frontend = default_frontend(aligner=TEXTGRID)
    # MFA leaves silences blank.
    names = (NAMES if ipa else {phone: phone for phone in NAMES}) | {"SIL": ""}
    if ipa:
        (tmp_path / "ipa.dict").write_text(ipa_dictionary, encoding="utf-8")
        frontend = default_frontend(tmp_path / "ipa.dict", aligner=TEXTGRID)
    for one in clips:
        recording = folder / "corpus" / one.speaker / f"{one.id.replace('/', '__')}.wav"
        intervals = alignments[one.id]
        length = soundfile.info(recording).duration
        grid = tmp_path / "aligned" / one.speaker / f"{recording.stem}.TextGrid"
        grid.parent.mkdir(parents=True, exist_ok=True)
        parts = [(names[item.phone], item.start_s, item.end_s) for item in intervals]
        grid.write_text(write({"words": [], "phones": parts}, length), encoding="utf-8")
        num_frames = int(np.ceil(length * 75))
        expected, expected_durations = frame_durations(intervals, num_frames, default_frontend())
        found = textgrid_intervals(TextGridFolder(tmp_path / "aligned").path(one), length, frontend)
        phones, durations = frame_durations(found, num_frames, frontend)
        assert phones == [names[phone] or "SIL" for phone in expected]
        assert durations.tolist() == expected_durations.tolist()


def test_a_second_run_keeps_what_is_there_and_writes_what_changed(clips: list[Utterance], tmp_path: Path) -> None:
    assert write_mfa(corpus_of(clips[:2]), tmp_path, language="de").written == 2
    lab = next(tmp_path.rglob("*conf-full.lab"))
    lab.unlink()  # as a run that was stopped leaves it
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.lab")}
    summary = write_mfa(corpus_of(clips), tmp_path, language="de")
    assert (summary.found, summary.written, summary.kept) == (3, 3, 1)
    assert len(list(tmp_path.rglob("*.lab"))) == 3
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    changed = [dataclasses.replace(clips[0], text="goodbye"), *clips[1:]]
    assert write_mfa(corpus_of(changed), tmp_path, language="de").kept == 2
    assert [path.name for path in tmp_path.rglob("*") if path.suffix == ".tmp"] == []


def test_flac_and_wav_of_16_bits_are_linked_and_others_rewritten(clips: list[Utterance], tmp_path: Path) -> None:
    wave, rate = clips[0].audio.read()
    kinds = {
        "linked.flac": {"subtype": "PCM_16"},
        "linked.wav": {"subtype": "PCM_16"},
        "deep.wav": {"subtype": "PCM_24"},
        "stereo.wav": {"subtype": "PCM_16"},
        "lossy.ogg": {"format": "OGG", "subtype": "VORBIS"},
    }
    utterances = []
    for name, options in kinds.items():
        samples = np.stack([wave, wave], axis=1) if name == "stereo.wav" else wave
        soundfile.write(tmp_path / name, samples, rate, **options)
        audio = AudioFile(tmp_path / name)
        utterances.append(dataclasses.replace(clips[0], id=name, audio=audio))
    part = AudioFile(tmp_path / "linked.wav", 0.0, 1.0)
    utterances.append(dataclasses.replace(clips[0], id="part.wav", audio=part))
    write_mfa(corpus_of(utterances), tmp_path / "mfa", language="de")
    written = {
        path.stem: path for path in (tmp_path / "mfa" / "corpus" / clips[0].speaker).iterdir() if path.suffix != ".lab"
    }
    assert {stem for stem, path in written.items() if path.stat().st_nlink == 2} == {"linked.flac", "linked.wav"}
    assert {path.suffix for stem, path in written.items() if stem != "linked.flac"} == {".wav"}
    for stem, path in written.items():
        info = soundfile.info(path)
        assert (info.subtype, info.channels) == ("PCM_16", 1)
        assert info.frames == (rate if stem == "part.wav" else len(wave))


def test_what_cannot_be_used_is_left_out_and_counted(clips: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "cut.wav").write_bytes(b"RIFF")
    bad = [
        dataclasses.replace(clips[0], id="empty", text=" … "),
        dataclasses.replace(clips[0], id="russian", text="привет"),
        dataclasses.replace(clips[0], id="fault", text="", fault=Fault("text-missing", "no transcript")),
        dataclasses.replace(clips[0], id="cut", audio=AudioFile(tmp_path / "cut.wav")),
        dataclasses.replace(clips[1], id=clips[0].id),
    ]
    calls = []
    summary = write_mfa(
        corpus_of([*clips[:2], *bad]),
        tmp_path / "mfa",
        "de",
        progress=lambda done, skipped: calls.append((done, skipped)),
    )
    assert (summary.found, summary.written) == (7, 2)
    assert summary.faults == {
        "text-empty": 1,
        "text-unpronounceable": 1,
        "text-missing": 1,
        "audio-unreadable": 1,
        "duplicate-id": 1,
    }
    assert calls[1] == (2, 0)
    assert calls[-1] == (7, 5)
    assert len(list((tmp_path / "mfa").rglob("*.lab"))) == 2
    with pytest.raises(InputError, match="none of 4 utterances"):
        write_mfa(corpus_of(bad[:4]), tmp_path / "none", language="de")


def test_limit_and_length(clips: list[Utterance], tmp_path: Path) -> None:
    split = [*clips[:2], dataclasses.replace(clips[2], split="other")]
    assert write_mfa(corpus_of(split), tmp_path / "one", language="de", limit=1).found == 2
    with pytest.raises(InputError, match="audio-too-long"):
        write_mfa(corpus_of(clips), tmp_path / "two", language="de", max_seconds=0.1)


def test_a_folder_of_something_else_is_left_alone(clips: list[Utterance], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not from --write-mfa"):
        write_mfa(corpus_of(clips), tmp_path, language="de")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    write_mfa(corpus_of(clips), tmp_path / "mfa", language="de")
    with pytest.raises(InputError, match="give another folder"):
        write_mfa(corpus_of(clips), tmp_path / "mfa", language="en-gb")


def test_stress_marks_are_written_where_they_are_asked_for(clips: list[Utterance], tmp_path: Path) -> None:
    write_mfa(corpus_of(clips), tmp_path / "plain")
    write_mfa(corpus_of(clips), tmp_path / "stressed", stress=True)
    plain, stressed = (tmp_path / name / "dictionary.dict" for name in ("plain", "stressed"))
    assert "ˈ" not in plain.read_text("utf-8")
    assert any("ˈ" in phone for phone in load_dictionary(stressed, stress=True).phones())
    assert load_dictionary(stressed, stress=False).phones() == load_dictionary(plain, stress=False).phones()


@pytest.mark.parametrize("language", ["en-us", "de"])
def test_the_commands_name_what_was_written(tmp_path: Path, language: str) -> None:
    folder = tmp_path / "my folder"
    text = mfa_commands(folder, ["folder:my dir", "my out", "--test-share", "0.1"], language)
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    commands = [line for line in lines if line]
    corpus, dictionary, aligned = (str(folder / name) for name in ("corpus", "dictionary.dict", "aligned"))
    assert commands[-2] == ["mfa", "train", "--clean", corpus, dictionary, str(folder / "acoustic_model.zip"),
                            "--output_directory", aligned]  # fmt: skip
    assert commands[-1] == ["ellav", "prepare", "folder:my dir", "my out", "--test-share", "0.1",
                            "--aligner", f"textgrid:{aligned}", "--dictionary", dictionary,
                            "--language", language]  # fmt: skip
    pretrained = ["mfa", "align", "--clean", corpus, "english_us_arpa", "english_us_arpa", aligned]
    assert (pretrained in commands) == (language == "en-us")
