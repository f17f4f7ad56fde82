"""The residual quantiser while it learns: codebooks follow moving averages of the residuals that chose their vectors."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ellav_jax.codec.config import NUM_CODEBOOKS
from ellav_jax.codec.training.config import QuantizerConfig
from ellav_jax.codec.weights import codebook_name


class Quantized(NamedTuple):
    """latents_BxDxT: with the gradient of what was quantised (straight through). commitment: mean squared distance of the
    residuals from their codes' vectors, over the codebooks used, with a gradient to the encoder alone. codes_used: of
    the codebook_size codes, how many occur in this batch, mean over the codebooks used."""

    latents_BxDxT: torch.Tensor
    commitment: torch.Tensor
    codes_used: float


class TrainedCodebooks:
    """Codebooks [N, D] with, for each code, the averaged number of frames a step that chose it and the sum of these."""

    def __init__(self, config: QuantizerConfig, arrays: Mapping[str, torch.Tensor], frames: int):
        """arrays: `state()` of another, or the codebooks alone, whose codes then count as evenly used.

        frames: of a batch.
        """
        self._config = config
        self._codebooks = [arrays[codebook_name(layer)].clone() for layer in range(NUM_CODEBOOKS)]
        self._fair = frames / len(self._codebooks[0])
        sizes_N = torch.full((len(self._codebooks[0]),), self._fair)
        self._sizes = [arrays.get(_size_name(layer), sizes_N).clone() for layer in range(NUM_CODEBOOKS)]

    def state(self) -> dict[str, torch.Tensor]:
        """What a checkpoint needs, under the encodec package's names."""
        return self.codebooks() | {_size_name(layer): sizes for layer, sizes in enumerate(self._sizes)}

    def codebooks(self) -> dict[str, torch.Tensor]:
        """The codebooks [N, D] under the encodec package's names."""
        return {codebook_name(layer): codebook for layer, codebook in enumerate(self._codebooks)}

    def draw_codebooks(self, generator: torch.Generator) -> int:
        """How many codebooks the next step uses: all, or at `fewer_codebooks` 1, 2 or 4."""
        if torch.rand((), generator=generator) >= self._config.fewer_codebooks:
            return NUM_CODEBOOKS
        return 2 ** int(torch.randint(3, (), generator=generator))

    def __call__(self, z_BxDxT: torch.Tensor, codebooks: int, learn: torch.Generator | None = None) -> Quantized:
        """Quantises by the first `codebooks` and, given a generator (for dead codes), lets these follow."""
        z_NxD = z_BxDxT.transpose(1, 2).flatten(0, 1)
        residual_NxD, total_NxD = z_NxD, torch.zeros_like(z_NxD)
        commitment, used = z_NxD.new_zeros(()), []
        for layer in range(codebooks):
            codebook_CxD = self._codebooks[layer]
            with torch.no_grad():
                scores_NxC = residual_NxD @ codebook_CxD.T - 0.5 * codebook_CxD.square().sum(-1)
                codes_N = scores_NxC.argmax(-1)
                chosen_NxD = codebook_CxD[codes_N]
                used.append(len(codes_N.unique()))
                if learn is not None:
                    self._follow(layer, residual_NxD, codes_N, learn)
            commitment = commitment + (residual_NxD - chosen_NxD).square().mean() / codebooks
            residual_NxD = residual_NxD - chosen_NxD
            total_NxD = total_NxD + chosen_NxD
        straight_NxD = z_NxD + (total_NxD - z_NxD).detach()
        codes_used = sum(used) / codebooks
        return Quantized(straight_NxD.unflatten(0, z_BxDxT[:, 0].shape).transpose(1, 2), commitment, codes_used)

    def _follow(self, layer: int, residual_NxD: torch.Tensor, codes_N: torch.Tensor, dead: torch.Generator) -> None:
        old_CxD, old_C, decay = self._codebooks[layer], self._sizes[layer], self._config.decay
        counts_C = torch.bincount(codes_N, minlength=len(old_C)).to(old_C.dtype)
        sums_CxD = torch.zeros_like(old_CxD).index_add_(0, codes_N, residual_NxD)
        sizes_C = decay * old_C + (1 - decay) * counts_C
        # The average of the sums need not be kept: it is the vector times its size.
        sums_CxD = decay * old_CxD * old_C[:, None] + (1 - decay) * sums_CxD
        codebook_CxD = sums_CxD / sizes_C.clamp(min=1e-6)[:, None]
        dead_C = sizes_C < self._config.dead_below * self._fair
        drawn_C = torch.randint(len(residual_NxD), (len(old_C),), generator=dead)
        self._codebooks[layer] = torch.where(dead_C[:, None], residual_NxD[drawn_C], codebook_CxD)
        # A new code gets time to find its frames: a tenth of the fair part lasts 160 steps at a decay of 0.99.
        self._sizes[layer] = torch.where(dead_C, 0.1 * self._fair, sizes_C)


def _size_name(layer: int) -> str:
    return f"quantizer.vq.layers.{layer}._codebook.cluster_size"
