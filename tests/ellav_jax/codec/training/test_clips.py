"""What segments are drawn from recordings."""

import numpy as np
import pytest

from ellav_jax.codec.training.clips import Segments
from ellav_jax.codec.training.config import SegmentConfig
from ellav_jax.errors import InputError


def _tone(hertz: float, seconds: float = 3.0, level: float = 0.3) -> np.ndarray:
    time_S = np.arange(round(24_000 * seconds)) / 24_000
    return np.round(32767 * level * np.sin(2 * np.pi * hertz * time_S)).astype(np.int16)


def _pitch(segment_S: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(segment_S)).argmax() * 24_000 / len(segment_S))


def test_a_step_has_the_same_segments_whenever_it_is_asked_for(recordings):
    first, second = (Segments(SegmentConfig(seconds=0.4, batch=3), [recordings], [1], seed=4) for _ in range(2))
    for step in (7, 3):
        np.testing.assert_array_equal(first.batch(step), second.batch(step))
    assert not np.array_equal(first.batch(7), first.batch(8))
    assert first.batch(0).shape == (3, 9600)
    assert first.batch(0).dtype == np.float32


def test_sources_are_drawn_by_weight_half_of_them_at_another_speed():
    config = SegmentConfig(seconds=0.4, batch=200, faster=1.2)
    batch = Segments(config, [_tone(1000), _tone(4000)], [1, 3], seed=0).batch(0)
    pitches = np.array([_pitch(segment) for segment in batch])
    assert np.mean(pitches > 2000) == pytest.approx(0.75, abs=0.09)
    relative = np.where(pitches > 2000, pitches / 4000, pitches / 1000)
    assert relative.min() >= 1 / 1.21
    assert relative.max() <= 1.21
    assert np.mean(np.abs(relative - 1) < 0.002) == pytest.approx(0.5, abs=0.1)


def test_speech_is_brought_to_a_level_within_limits_and_pauses_are_not():
    source = np.concatenate([_tone(500), np.zeros(72_000, np.int16)])
    config = SegmentConfig(seconds=0.2, batch=200, loudness=(-30, -20), unscaled=0.2)
    levels = np.sqrt(np.mean(np.square(Segments(config, [source], [1], seed=0).batch(0)), axis=1))
    scaled = levels[(levels > 0) & (levels < 0.15)]
    assert 20 * np.log10(scaled.min()) >= -30.2
    assert 20 * np.log10(scaled.max()) <= -19.8
    assert np.mean(levels < 1e-3) == pytest.approx(0.1, abs=0.06)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seconds": 0.11}, "2640 samples"),
        ({"seconds": 0.04}, "960 samples"),
        ({"batch": 0}, "batch"),
        ({"faster": 0.9}, "faster"),
    ],
)
def test_segments_that_cannot_be_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        SegmentConfig(**fields)


def test_a_source_shorter_than_a_segment_is_refused():
    with pytest.raises(InputError, match=r"source 2 holds 0\.5 s of audio"):
        Segments(SegmentConfig(), [_tone(500), _tone(500, 0.5)], [1, 1], seed=0)


def test_recordings_without_speech_are_refused():
    segments = Segments(SegmentConfig(seconds=0.2, unscaled=0.0), [_tone(500, level=1e-3)], [1], seed=0)
    with pytest.raises(InputError, match="the recordings are pauses"):
        segments.batch(0)
