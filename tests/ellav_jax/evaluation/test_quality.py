import importlib.util
import sys

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.evaluation.metric import Heard
from ellav_jax.evaluation.quality import Dnsmos


@pytest.mark.slow
def test_noise_sounds_worse_than_speech(small_corpus):
    if not all(map(importlib.util.find_spec, ("speechmos", "librosa", "onnxruntime"))):
        pytest.skip("speechmos, librosa or onnxruntime is not installed")
    wave_S, rate = next(one for one in small_corpus.utterances if one.split == "test").audio.read()
    noise_S = wave_S + 0.1 * np.random.default_rng(0).normal(size=len(wave_S)).astype(np.float32)
    clean, noisy, nothing = (
        Dnsmos().measure(Heard("", (), one_S, rate, 0, np.zeros(0, np.float32), True))
        for one_S in (wave_S, noise_S, np.zeros(9000, np.float32))
    )
    assert clean["overall"] > noisy["overall"] + 0.5
    assert clean["p808"] > noisy["p808"]
    assert set(nothing.values()) == {None}


def test_a_missing_package_is_told_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "speechmos", None)
    with pytest.raises(InputError, match=r"install them with: pip install 'ellav-jax\[evaluate\]'"):
        Dnsmos()
