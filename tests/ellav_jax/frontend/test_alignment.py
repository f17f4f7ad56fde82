"""Forced alignment of real recordings."""

import dataclasses
import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.alignment import Aligner, AlignmentError
from ellav_jax.frontend.analyzer import TextAnalyzer
from ellav_jax.frontend.durations import frame_durations, trim_edges
from ellav_jax.frontend.frontend import TEXTGRID, Frontend, default_frontend
from ellav_jax.frontend.intervals import PhoneInterval
from tests.ellav_jax.frontend.conftest import Clip

CLIPS = ["conf-full", "hello-world", "vm-goodbye", "spy-mgcp", "digits_90", "conf-unmuted", "pm-invalid-option"]


def spoken(intervals: list[PhoneInterval]) -> list[str]:
    return [item.phone for item in intervals if item.phone != "SIL"]


def level(waveform: np.ndarray, sample_rate: int, intervals: list[PhoneInterval], silent: bool) -> float:
    """dB of all silent, or all spoken, parts."""
    parts = [
        waveform[round(item.start_s * sample_rate) : round(item.end_s * sample_rate)]
        for item in intervals
        if (item.phone == "SIL") == silent
    ]
    return 10 * np.log10(np.mean(np.concatenate(parts) ** 2) + 1e-12)


@pytest.mark.parametrize("name", CLIPS)
def test_intervals_cover_the_clip_with_a_pronunciation_of_each_word(
    aligner: Aligner, analyzer: TextAnalyzer, clip: Clip, name: str
) -> None:
    waveform, sample_rate, text = clip(name)
    intervals = aligner.align(waveform, sample_rate, text)
    assert intervals[0].start_s == 0
    assert intervals[-1].end_s == len(waveform) / sample_rate
    for before, after in itertools.pairwise(intervals):
        assert before.end_s == after.start_s
        assert before.end_s - before.start_s > 0.009
    rest = spoken(intervals)
    for word in analyzer.words(text):
        chosen = [phones for phones in word.pronunciations if tuple(rest[: len(phones)]) == phones]
        assert chosen, (word, rest)
        rest = rest[len(max(chosen, key=len)) :]
    assert not rest


@pytest.mark.parametrize("name", CLIPS)
def test_sil_is_much_quieter_than_speech(aligner: Aligner, clip: Clip, name: str) -> None:
    waveform, sample_rate, text = clip(name)
    intervals = aligner.align(waveform, sample_rate, text)
    speech = level(waveform, sample_rate, intervals, silent=False)
    assert level(waveform, sample_rate, intervals, silent=True) < speech - 15


def test_the_alignment_does_not_depend_on_the_clips_before(
    frontend: Frontend, analyzer: TextAnalyzer, clip: Clip
) -> None:
    forward, backward = Aligner(frontend, analyzer), Aligner(frontend, analyzer)
    first = [forward.align(*clip(name)) for name in CLIPS[:4]]
    second = [backward.align(*clip(name)) for name in reversed(CLIPS[:4])]
    assert first == second[::-1]


def test_boundaries_move_with_the_recording(aligner: Aligner, clip: Clip) -> None:
    moves = []
    for name in CLIPS:
        waveform, sample_rate, text = clip(name)
        plain = aligner.align(waveform, sample_rate, text)
        later = aligner.align(np.pad(waveform, (sample_rate // 2, 0)), sample_rate, text)
        assert spoken(later) == spoken(plain)
        starts = [np.array([item.start_s for item in one if item.phone != "SIL"]) for one in (plain, later)]
        moves.extend(starts[1] - starts[0])
    # A liquid and its vowel ("full") have no sharp boundary, so single ones may move more.
    assert np.median(moves) == pytest.approx(0.5, abs=0.011)
    assert np.quantile(np.abs(np.array(moves) - 0.5), 0.9) <= 0.03


def test_a_pause_between_two_words_is_sil(aligner: Aligner, clip: Clip, frontend: Frontend) -> None:
    press, sample_rate, _ = clip("vm-press")
    pound, _, _ = clip("digits_pound")
    pause = np.zeros(int(0.5 * sample_rate), np.float32)
    intervals = aligner.align(np.concatenate([press, pause, pound]), sample_rate, "press pound")
    inner = [item for item in intervals[1:-1] if item.phone == "SIL"]
    assert len(inner) == 1
    assert inner[0].start_s < len(press) / sample_rate + 0.02
    assert inner[0].end_s > len(press) / sample_rate + 0.48
    num_frames = int(np.ceil((len(press) + len(pause) + len(pound)) / sample_rate * 75))
    phones, _ = frame_durations(intervals, num_frames, frontend)
    assert [phone for phone in phones[1:-1] if phone == "SIL"] == ["SIL"]


def test_the_sample_rate_makes_no_difference(aligner: Aligner, clip: Clip) -> None:
    import soxr

    waveform, sample_rate, text = clip("hello-world")
    plain = aligner.align(waveform, sample_rate, text)
    resampled = aligner.align(soxr.resample(waveform, sample_rate, 48000), 48000, text)
    assert spoken(plain) == spoken(resampled)
    assert np.abs(np.array([i.start_s for i in plain]) - [i.start_s for i in resampled]).max() <= 0.02


def test_trimmed_clips_give_durations_of_all_their_phones(aligner: Aligner, clip: Clip, frontend: Frontend) -> None:
    for name in CLIPS:
        waveform, sample_rate, text = clip(name)
        intervals = aligner.align(waveform, sample_rate, text)
        trimmed, moved = trim_edges(waveform, sample_rate, intervals, frontend)
        num_frames = int(np.ceil(len(trimmed) / sample_rate * 75))
        phones, durations = frame_durations(moved, num_frames, frontend)
        assert [phone for phone in phones if phone != "SIL"] == spoken(intervals)
        assert durations.sum() == num_frames


def test_stress_digits_come_from_the_dictionary(clip: Clip, tmp_path: Path) -> None:
    path = tmp_path / "stress.dict"
    path.write_text("goodbye G UH2 D B AY1\n")
    frontend = default_frontend(path, stress=True)
    waveform, sample_rate, text = clip("vm-goodbye")
    intervals = Aligner(frontend, TextAnalyzer(frontend, path)).align(waveform, sample_rate, text)
    assert spoken(intervals) == ["G", "UH2", "D", "B", "AY1"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("conf-full", "press star to cancel this message and return to the main menu"),
        ("digits_90", "the conference will begin when the leader arrives"),
        ("vm-newuser", "welcome"),  # said, but only the beginning
    ],
)
def test_text_that_is_not_said_is_refused(aligner: Aligner, clip: Clip, name: str, text: str) -> None:
    waveform, sample_rate, _ = clip(name)
    with pytest.raises(AlignmentError, match="check that this is what is said"):
        aligner.align(waveform, sample_rate, text)


@pytest.mark.parametrize("samples", [0, 1, 240, 2400])
def test_a_recording_without_room_for_its_text_is_refused(aligner: Aligner, samples: int) -> None:
    with pytest.raises(AlignmentError):
        aligner.align(np.zeros(samples, np.float32), 24000, "goodbye and thank you for calling")


def test_failures_say_nothing_on_stderr(aligner: Aligner, clip: Clip, capfd: pytest.CaptureFixture[str]) -> None:
    waveform, sample_rate, text = clip("vm-goodbye")
    aligner.align(waveform, sample_rate, text)
    with pytest.raises(AlignmentError):
        aligner.align(waveform[:3000], sample_rate, text * 20)
    assert capfd.readouterr() == ("", "")


def test_the_frontend_of_another_aligner_is_refused(frontend: Frontend, analyzer: TextAnalyzer) -> None:
    with pytest.raises(InputError, match=r"found 'textgrid' and arpabet phones.*align with MFA"):
        Aligner(dataclasses.replace(frontend, aligner=TEXTGRID), analyzer)


def test_a_refusal_names_its_fault_and_can_be_sent_between_processes() -> None:
    error = pickle.loads(pickle.dumps(AlignmentError("not said")))
    assert isinstance(error, AlignmentError)
    assert (error.fault, str(error)) == ("text-mismatch", "not said")
