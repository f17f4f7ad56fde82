"""Every number of a codec's training, and where it comes from. Importing this imports no torch.

"The paper" is EnCodec's (arXiv 2210.13438). What was chosen here was not compared with alternatives unless it says so.
"""

import dataclasses

from ellav_jax.codec.config import SAMPLE_RATE, CodecConfig
from ellav_jax.errors import InputError

MEL_SCALES = ((64, 8), (128, 16), (256, 32), (512, 64), (1024, 80), (2048, 128))
"""Window in samples and number of mel bands of each spectral distance. The paper (section 3.4) takes windows of 2^5 to
2^11 with 64 bands each; chosen because a short window does not resolve so many."""


@dataclasses.dataclass(frozen=True)
class SegmentConfig:
    """seconds: of a segment; the paper takes 1 s (section 4.2). batch: segments a step; the paper has 64 on 8 GPUs; chosen
    because a step shall take about a second of a CPU core.

    faster: the largest factor by which a segment is sped up or slowed down, pitch and all, to have more voices than the
    recordings; drawn for half of the segments. loudness: limits of their level, dB of full scale. unscaled: share of the
    segments that keep their own level, pauses among them. The paper doesn't have these three.
    """

    seconds: float = 1.0
    batch: int = 12
    faster: float = 1.18
    loudness: tuple[float, float] = (-32.0, -14.0)
    unscaled: float = 0.05

    def __post_init__(self) -> None:
        if self.batch < 1 or self.faster < 1 or not 0 <= self.unscaled <= 1:
            raise InputError(
                f"segments: batch {self.batch}, faster {self.faster}, unscaled {self.unscaled}; expected at least 1, at "
                "least 1, and 0 to 1"
            )
        frame, least = CodecConfig().hop, max(window for window, _ in MEL_SCALES)
        if self.samples % frame or self.samples < least:
            raise InputError(
                f"segments of {self.seconds} s are {self.samples} samples; expected whole frames of {frame}, and at least "
                f"the {least} samples of the longest spectrum: 1 s is both"
            )

    @property
    def samples(self) -> int:
        """Samples of a segment."""
        return round(self.seconds * SAMPLE_RATE)


@dataclasses.dataclass(frozen=True)
class QuantizerConfig:
    """decay: of the moving averages that the codebooks follow (the paper, section 3.3). dead_below: a code becomes a
    residual of the batch when its averaged share of the frames falls below this part of an even share; the paper replaces
    unused codes and gives no number. fewer_codebooks: share of the steps that use the first 1, 2 or 4 codebooks in place
    of all 8. The paper draws the number evenly; chosen lower because ELLA-V always uses all, its GAR the first alone.
    """

    decay: float = 0.99
    dead_below: float = 0.02
    fewer_codebooks: float = 0.3


@dataclasses.dataclass(frozen=True)
class BalanceConfig:
    """Shares of the losses in the gradient on the decoded waveform, as in the paper (section 3.4). norm: of the whole
    gradient, mean over the clips, against which the commitment's weight stands. decay: of the averaged norms by which the
    losses' gradients are divided, as in the paper."""

    waveform: float = 0.1
    spectrum: float = 1.0
    adversarial: float = 3.0
    features: float = 3.0
    norm: float = 0.1
    decay: float = 0.999


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """windows: samples of each scale's STFT, whose hops are a quarter of them; as in the paper (section 3.4). filters:
    channels of each convolution; 32 in the paper, 16 chosen because it is a quarter of the work."""

    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    filters: int = 16


@dataclasses.dataclass(frozen=True)
class AdversaryConfig:
    """learning_rate, betas: of the discriminator's Adam, as in the paper. update_share: of the steps that train it, 2/3 in
    the paper (section 3.4) lest it gets too far ahead. clip: limit of its gradient's norm. bfloat16: its convolutions
    compute in it, which was twice as fast as float32 on CPUs with AVX-512 BF16; the codec stays in float32."""

    discriminator: DiscriminatorConfig = DiscriminatorConfig()
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.5, 0.9)
    update_share: float = 2 / 3
    clip: float = 20.0
    bfloat16: bool = True


@dataclasses.dataclass(frozen=True)
class CodecTrainingConfig:
    """learning_rate: of Muon, which trains the matrices, and of Adam, which trains the rest; the paper has Adam alone at
    this rate (section 4.2). Chosen because from one state, in 250 steps, Muon took the held-out distance from 0.1448 to
    0.1429 where Adam stayed at 0.1448 (2026-11-23). The rate rises over `warmup` steps and is halved every `half_life`,
    where the paper keeps it; chosen because the noise of small batches bounds what a constant rate comes to. betas:
    Adam's, 0.5 and 0.9 in the paper; chosen slower because the batch is 5 times smaller. momentum: Muon's, its usual one.
    bfloat16: encoder and decoder compute in it, which was a quarter faster on a CPU with AVX-512 BF16; the weights, the
    codebooks and the losses stay in float32. commitment: weight of that loss; 1 in the
    paper, whose latents have another scale: at 1 and the balance's norm of 0.1 the bundled codec's latents halved in 140
    steps, and a third of its codes fell out of use. clip: limit of the gradient's norm.

    average: decay of the moving average of all weights; it is what is measured and exported. adversary_from: the step at
    which the discriminator joins. In the paper it is there from the first; chosen later because it makes a step three
    times as long. adversary_joins: steps over which the weights of its losses rise to their full size, because what it
    says at first is noise. log_every: steps. save_minutes: between checkpoints.
    """

    segments: SegmentConfig = SegmentConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    balance: BalanceConfig = BalanceConfig()
    adversary: AdversaryConfig = AdversaryConfig()
    learning_rate: float = 3e-4
    betas: tuple[float, float] = (0.8, 0.99)
    momentum: float = 0.95
    bfloat16: bool = False
    warmup: int = 200
    half_life: float = 10_000
    commitment: float = 0.1
    clip: float = 20.0
    average: float = 0.998
    adversary_from: int = 4000
    adversary_joins: int = 1000
    log_every: int = 50
    save_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.average < 1:
            raise InputError(f"average {self.average}: expected a decay of at least 0 and below 1")
        for name in ("learning_rate", "warmup", "half_life", "adversary_joins", "log_every", "save_minutes", "clip"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} {getattr(self, name)}: expected a number above 0")
