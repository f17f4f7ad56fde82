"""The sizes of an EnCodec 24 kHz model."""

import dataclasses
import math

SAMPLE_RATE = 24_000
# Upsampling factors in the decoder's order (EnCodec 24 kHz, arXiv 2210.13438, section 3.2); the encoder reverses them.
RATIOS = (8, 5, 4, 2)
KERNEL_SIZE = 7  # of the outermost convolutions on either side
RESIDUAL_KERNEL_SIZE = 3
LSTM_LAYERS = 2
# ELLA-V's EnCodec runs at 6 kbit/s: 8 codebooks of 10 bits at 75 Hz. Official weights hold 32; the first 8 are used.
NUM_CODEBOOKS = 8


@dataclasses.dataclass(frozen=True)
class CodecFacts:
    """What a data set depends on: which weights (their name, and sha256 of their file), and what the codes are like.

    sample_rate: Hz. hop: samples a frame. frame_rate: frames a second. Each frame has num_codebooks codes, each below
    codebook_size.
    """

    name: str
    sha256: str
    sample_rate: int
    hop: int
    frame_rate: int
    num_codebooks: int
    codebook_size: int


@dataclasses.dataclass(frozen=True)
class CodecConfig:
    """Sizes that differ between weights: read off the shapes in the weights' file, not chosen by a user.

    filters: channels of the outermost layers (official 32, bundled 16). dimension: of the latents and of a codebook's
    vectors. codebook_size: codes of each codebook.
    """

    filters: int = 32
    dimension: int = 128
    codebook_size: int = 1024

    @property
    def hop(self) -> int:
        """Samples a frame."""
        return math.prod(RATIOS)

    @property
    def frame_rate(self) -> int:
        """Frames a second."""
        return SAMPLE_RATE // self.hop
