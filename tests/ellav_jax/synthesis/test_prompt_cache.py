"""Prompts kept on disk."""

import dataclasses

import numpy as np
import pytest

from ellav_jax.errors import InputError
from ellav_jax.frontend.frontend import default_frontend
from ellav_jax.frontend.word_spans import WordSpan
from ellav_jax.synthesis.prompt_cache import PromptCache
from ellav_jax.synthesis.prompts import Prompt

WAVE = np.linspace(-0.5, 0.5, 24_000, dtype=np.float32)


class _Codec:
    sha256 = "ab" * 32


class _Synthesizer:
    """Counts what it is asked for."""

    def __init__(self, frontend, codec=_Codec):
        self.frontend, self.codec, self.asked = frontend, codec, 0

    def prompt(self, waveform_S, sample_rate, text, intervals=None):
        self.asked += 1
        if text == "refused":
            raise InputError("not what is said")
        rng = np.random.default_rng(len(text))
        codes = rng.integers(0, 1024, (9, 8)).astype(np.int32)
        return Prompt(np.array([0, 3, 5], np.int32), np.array([2, 3, 4], np.int32), codes, (WordSpan("a", 1, 3),))


@pytest.fixture(scope="module")
def frontend():
    return default_frontend()


@pytest.fixture
def cache(tmp_path):
    warnings = []
    made = PromptCache(tmp_path / "cache", warnings.append)
    made.warnings = warnings
    return made


def test_a_prompt_is_made_once_and_comes_back_as_it_was(cache, frontend):
    made = cache.prompt(_Synthesizer(frontend), WAVE, 24_000, "text")
    other = _Synthesizer(frontend)
    found = cache.prompt(other, WAVE, 24_000, "text")
    assert other.asked == 0
    for name in ("phones_P", "durations_P", "codes_Tx8"):
        np.testing.assert_array_equal(getattr(found, name), getattr(made, name))
        assert getattr(found, name).dtype == np.int32
    assert found.words == made.words
    assert not cache.warnings


def test_whatever_a_prompt_depends_on_makes_another_one(cache, frontend):
    class Other:
        sha256 = "cd" * 32

    silent = dataclasses.replace(frontend, silence_min_seconds=0.3)
    calls = [
        (_Synthesizer(frontend), WAVE, 24_000, "text"),
        (_Synthesizer(frontend), WAVE[1:], 24_000, "text"),
        (_Synthesizer(frontend), WAVE, 22_050, "text"),
        (_Synthesizer(frontend), WAVE, 24_000, "texts"),
        (_Synthesizer(frontend), WAVE, 24_000, "text", []),
        (_Synthesizer(frontend, Other), WAVE, 24_000, "text"),
        (_Synthesizer(silent), WAVE, 24_000, "text"),
    ]
    for synthesizer, *rest in calls:
        cache.prompt(synthesizer, *rest)
        assert synthesizer.asked == 1
    assert len(list(cache.folder.glob("*.safetensors"))) == len(calls)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:60] + b"\0" + b[61:], lambda b: b"x" * 99]
)
def test_a_damaged_file_is_made_anew_with_a_warning(cache, frontend, damage):
    cache.prompt(_Synthesizer(frontend), WAVE, 24_000, "text")
    path = next(cache.folder.iterdir())
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    synthesizer = _Synthesizer(frontend)
    cache.prompt(synthesizer, WAVE, 24_000, "text")
    assert synthesizer.asked == 1
    assert len(cache.warnings) == 1
    assert str(path) in cache.warnings[0]
    assert path.read_bytes() == whole


def test_a_folder_that_can_t_be_made_costs_a_warning_alone(tmp_path, frontend):
    (tmp_path / "file").write_text("")
    warnings = []
    cache = PromptCache(tmp_path / "file" / "cache", warnings.append)
    assert len(cache.prompt(_Synthesizer(frontend), WAVE, 24_000, "text").codes_Tx8) == 9
    assert warnings
    assert "the prompt can't be kept" in warnings[-1]


def test_what_is_refused_is_not_kept(cache, frontend):
    for _ in range(2):
        with pytest.raises(InputError):
            cache.prompt(_Synthesizer(frontend), WAVE, 24_000, "refused")
    assert not cache.folder.exists()
