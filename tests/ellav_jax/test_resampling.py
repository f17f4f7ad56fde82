"""Sample-rate conversion."""

import numpy as np
import pytest

from ellav_jax.resampling import resample


@pytest.mark.parametrize("source, target", [(8_000, 24_000), (48_000, 24_000), (24_000, 16_000)])
def test_a_tone_stays_the_tone_at_the_other_rate(source, target):
    def tone(rate):
        return np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)

    found = resample(tone(source), source, target)
    assert found.dtype == np.float32
    assert len(found) == target
    middle = slice(target // 10, -target // 10)  # the filter rings at the edges
    np.testing.assert_allclose(found[middle], tone(target)[middle], atol=1e-3)


def test_the_same_rate_is_left_alone():
    waveform = np.ones(5, np.float32)
    assert resample(waveform, 24_000, 24_000) is waveform
