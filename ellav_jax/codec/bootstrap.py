"""Codebooks for a fresh model, whose zeros make every code tie."""

import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np

from ellav_jax.codec.checks import checked_waveform
from ellav_jax.codec.chunks import ChunkedRunner
from ellav_jax.codec.config import NUM_CODEBOOKS
from ellav_jax.codec.modules import SeanetEncoder
from ellav_jax.codec.weights import CodecWeights, codebook_name

# Spread of the perturbation, as a part of the spread of what a layer is to code. Chosen because the vectors drawn then
# still lie where latents are, and two draws of the same latent differ.
_PERTURBATION = 0.3


def fill_codebooks(weights: CodecWeights, waveforms: Sequence[np.ndarray], *, seed: int) -> CodecWeights:
    """Replaces all codebooks by latents of the waveforms (float [S], 24 kHz), drawn at random and perturbed.

    Each codebook is drawn from what the ones before it leave over. A few seconds of speech are enough for hundreds of
    codes in use in each layer, as parity checks of untrained models and the first step of a training need.
    The result's `sha256` is of its arrays, as there is no file.
    """
    rng = np.random.default_rng(seed)
    clips = [checked_waveform(waveform, weights.config.hop) for waveform in waveforms]
    runner = ChunkedRunner(SeanetEncoder(weights.config, weights.arrays), lanes=min(8, len(clips)), chunk=32)
    latents = runner([clip[:, None] for clip in clips], [len(clip) // weights.config.hop for clip in clips])
    residual_NxD = np.concatenate(latents)
    arrays = dict(weights.arrays)
    for layer in range(NUM_CODEBOOKS):
        drawn_CxD = residual_NxD[rng.integers(len(residual_NxD), size=weights.config.codebook_size)]
        noise_CxD = rng.normal(size=drawn_CxD.shape) * residual_NxD.std(axis=0) * _PERTURBATION
        codebook_CxD = (drawn_CxD + noise_CxD).astype(np.float32)
        scores_NxC = residual_NxD @ codebook_CxD.T - 0.5 * np.square(codebook_CxD).sum(axis=-1)
        residual_NxD = residual_NxD - codebook_CxD[np.argmax(scores_NxC, axis=-1)]
        arrays[codebook_name(layer)] = codebook_CxD
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode() + arrays[name].tobytes())
    return dataclasses.replace(weights, arrays=arrays, sha256=digest.hexdigest())
