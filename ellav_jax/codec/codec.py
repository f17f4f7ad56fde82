"""The codec as the rest of the project sees it: waveforms to codes and back, on JAX."""

from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx

from ellav_jax.codec.checks import checked_codes, checked_waveform
from ellav_jax.codec.chunks import ChunkedRunner
from ellav_jax.codec.config import NUM_CODEBOOKS, SAMPLE_RATE
from ellav_jax.codec.modules import Lanes, SeanetDecoder, SeanetEncoder, State
from ellav_jax.codec.quantizer import ResidualQuantizer
from ellav_jax.codec.weights import CodecWeights


class _WaveformToCodes(nnx.Module):
    def __init__(self, weights: CodecWeights):
        self.seanet = SeanetEncoder(weights.config, weights.arrays)
        self.quantizer = ResidualQuantizer(weights.arrays)

    def initial_state(self, lanes: int) -> State:
        return self.seanet.initial_state(lanes)

    def __call__(self, x_BxS: jax.Array, state: State, lanes: Lanes) -> tuple[jax.Array, State]:
        latents_BxTxD, state = self.seanet(x_BxS[..., None], state, lanes)
        return self.quantizer.encode(latents_BxTxD), state


class _CodesToWaveform(nnx.Module):
    def __init__(self, weights: CodecWeights):
        self.seanet = SeanetDecoder(weights.config, weights.arrays)
        self.quantizer = ResidualQuantizer(weights.arrays)

    def initial_state(self, lanes: int) -> State:
        return self.seanet.initial_state(lanes)

    def __call__(self, codes_BxTxQ: jax.Array, state: State, lanes: Lanes) -> tuple[jax.Array, State]:
        x_BxSx1, state = self.seanet(self.quantizer.decode(codes_BxTxQ), state, lanes)
        return x_BxSx1[..., 0], state


class Codec:
    """EnCodec 24 kHz at 6 kbit/s in JAX: 75 frames a second of 8 codes.

    A clip's codes and waveform depend on the clip alone, whatever else is in the call and however long anything is:
    all goes through one compiled chunk of one shape (`chunks.ChunkedRunner`).

    lanes: clips at a time. chunk: frames at a time. 4 x 32 was as fast as any on 2 CPU cores, where activations must
    fit the cache; an accelerator wants more work a call (`load_codec` gives it 16 x 300, which is not yet measured).
    """

    sample_rate = SAMPLE_RATE
    num_codebooks = NUM_CODEBOOKS

    def __init__(self, weights: CodecWeights, *, lanes: int = 4, chunk: int = 32):
        self.name, self.sha256 = weights.name, weights.sha256
        self.hop, self.frame_rate = weights.config.hop, weights.config.frame_rate
        self.codebook_size = weights.config.codebook_size
        self._encoder = ChunkedRunner(_WaveformToCodes(weights), lanes=lanes, chunk=chunk)
        self._decoder = ChunkedRunner(_CodesToWaveform(weights), lanes=lanes, chunk=chunk)

    def encode(self, waveform: np.ndarray) -> np.ndarray:
        """Mono float samples [S] at 24 kHz → codes int32 [ceil(S / 320), 8]. Raises InputError for anything else."""
        return self.encode_batch([waveform])[0]

    def encode_batch(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `encode` for each waveform; much faster than one by one."""
        clips = [checked_waveform(waveform, self.hop) for waveform in waveforms]
        return self._encoder(clips, [len(clip) // self.hop for clip in clips])

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Codes, integers [T, 8] → waveform float32 [T * 320] at 24 kHz. Raises InputError for anything else."""
        return self.decode_batch([codes])[0]

    def decode_batch(self, codes: Sequence[np.ndarray]) -> list[np.ndarray]:
        """As `decode` for each array of codes; much faster than one by one."""
        clips = [checked_codes(one, self.codebook_size) for one in codes]
        return self._decoder(clips, [len(clip) for clip in clips])
