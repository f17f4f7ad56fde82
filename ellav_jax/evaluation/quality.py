"""DNSMOS: a model of listeners' opinions, for speech without a reference."""

from collections.abc import Mapping
from typing import Any

from ellav_jax.errors import InputError
from ellav_jax.evaluation.metric import Column, Heard
from ellav_jax.resampling import resample

_RATE = 16000


class Dnsmos:
    """DNSMOS P.835 (arXiv 2110.01763) and P.808, 1 to 5, of what stands behind the prompt, by the package speechmos.

    It repeats clips below 9 s. Trained to judge noise suppressors: droning and wrong words don't bother it.
    """

    name = "dnsmos"
    columns = (
        Column("DNSMOS", "DNSMOS P.835, overall, 1 to 5", "overall", None, 1, 2, "higher"),
        Column("P.808", "DNSMOS P.808, 1 to 5", "p808", None, 1, 2, "higher"),
    )

    def __init__(self) -> None:
        """Raises InputError where speechmos, or what it needs, is missing."""
        try:
            from speechmos import dnsmos
        except ImportError as error:
            raise InputError(
                f"DNSMOS needs speechmos, librosa and onnxruntime ({error}); install them with: pip install "
                "'ellav-jax[evaluate]'"
            ) from None
        self._run = dnsmos.run

    def measure(self, heard: Heard) -> Mapping[str, Any]:
        """Overall quality, signal, background; P.808. None each for nothing or for digital silence."""
        wave_S = resample(heard.spoken_S, heard.sample_rate, _RATE)
        if not wave_S.any():
            return dict.fromkeys(("overall", "signal", "background", "p808"))
        scores = self._run(wave_S.clip(-1, 1), _RATE)
        names = {"overall": "ovrl_mos", "signal": "sig_mos", "background": "bak_mos", "p808": "p808_mos"}
        return {name: float(scores[theirs]) for name, theirs in names.items()}
