"""The discriminator's shapes against the paper's figure of it, its losses against the formulas."""

import pytest
import torch

from ellav_jax.codec.training.config import DiscriminatorConfig
from ellav_jax.codec.training.discriminator import (
    Judgement,
    MultiScaleDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)


@torch.no_grad()
def test_shapes_are_those_of_the_paper_at_five_scales():
    x_BxS = torch.randn(2, 6000, generator=torch.Generator().manual_seed(0))
    judgements = MultiScaleDiscriminator(DiscriminatorConfig(filters=32))(x_BxS)
    assert len(judgements) == 5
    for window, judgement in zip((2048, 1024, 512, 256, 128), judgements, strict=True):
        frames = (6000 - window) // (window // 4) + 1
        bins = window // 2 + 1
        halved = [bins]
        for _ in range(3):
            halved.append((halved[-1] + 1) // 2)  # stride 2 over frequency, dilated over time
        expected = [(2, 32, frames, width) for width in (*halved, halved[-1])]
        assert [tuple(feature.shape) for feature in judgement.features] == expected
        assert tuple(judgement.logits.shape) == (2, 1, frames, halved[-1])


def test_kernels_are_those_of_the_paper():
    [scale] = MultiScaleDiscriminator(DiscriminatorConfig(windows=(1024,), filters=32)).scales
    first, *dilated, last = scale.convolutions
    assert (first.kernel_size, first.stride, first.in_channels) == ((3, 9), (1, 1), 2)
    assert [(one.kernel_size, one.stride, one.dilation) for one in dilated] == [
        ((3, 9), (1, 2), (1, 1)),
        ((3, 9), (1, 2), (2, 1)),
        ((3, 9), (1, 2), (4, 1)),
    ]
    assert last.kernel_size == scale.last.kernel_size == (3, 3)


def _judgement(logits: list[float], *features: list[float]) -> Judgement:
    return Judgement(torch.tensor(logits), [torch.tensor(feature) for feature in features])


def test_hinge_losses():
    recordings = [_judgement([2.0, 0.5]), _judgement([-1.0, 1.0])]
    decoded = [_judgement([-2.0, 0.0]), _judgement([0.5, 0.5])]
    # Recordings: (0 + 0.5) / 2, (2 + 0) / 2; decoded: (0 + 1) / 2, (1.5 + 1.5) / 2.
    assert float(discriminator_loss(recordings, decoded)) == pytest.approx((0.25 + 0.5 + 1.0 + 1.5) / 2)
    assert float(adversarial_loss(decoded)) == pytest.approx(((3 + 1) / 2 + (0.5 + 0.5) / 2) / 2)


def test_feature_loss_is_relative_to_the_recordings_magnitude():
    recordings = [_judgement([0.0], [2.0, -2.0], [10.0, 30.0])]
    decoded = [_judgement([0.0], [1.0, -2.0], [10.0, 10.0])]
    assert float(feature_loss(recordings, decoded)) == pytest.approx((0.5 / 2 + 10 / 20) / 2)
