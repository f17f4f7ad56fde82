"""The discriminator at its work: trained beside the codec, and judging what the codec decodes."""

from typing import Any

import torch

from ellav_jax.codec.training.config import AdversaryConfig
from ellav_jax.codec.training.discriminator import (
    Judgement,
    MultiScaleDiscriminator,
    adversarial_loss,
    discriminator_loss,
    feature_loss,
)
from ellav_jax.errors import InputError


class Adversary:
    """The discriminator and its optimiser."""

    def __init__(self, config: AdversaryConfig, seed: int, state: dict[str, Any] | None = None):
        """state: that of another, to go on from; otherwise fresh weights of this seed. Raises InputError for the state of
        a discriminator of another size."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._discriminator = MultiScaleDiscriminator(config.discriminator)
        self._config = config
        self._optimizer = torch.optim.Adam(self._discriminator.parameters(), config.learning_rate, betas=config.betas)
        if state is not None:
            try:
                self._discriminator.load_state_dict(state["parameters"])
            except RuntimeError:
                raise InputError(
                    "the run that is continued has a discriminator of another size; give the windows and filters that it "
                    "began with"
                ) from None
            self._optimizer.load_state_dict(state["optimizer"])
            for group in self._optimizer.param_groups:
                group["lr"] = config.learning_rate  # which may be another than before
        self._judged: tuple[list[Judgement], list[Judgement]] | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"parameters": self._discriminator.state_dict(), "optimizer": self._optimizer.state_dict()}

    def judge(self, y_BxS: torch.Tensor, x_BxS: torch.Tensor) -> dict[str, torch.Tensor]:
        """The codec's losses on decoded waveforms beside the encoded ones, by the balance's names.

        Take their gradient on `y_BxS` alone, and before `learn`, which changes the weights that it goes through.
        """
        with torch.autocast("cpu", torch.bfloat16, enabled=self._config.bfloat16):
            recordings, decoded = self._discriminator(x_BxS), self._discriminator(y_BxS)
        self._judged = recordings, decoded
        targets = [Judgement(one.logits, [feature.detach() for feature in one.features]) for one in recordings]
        return {"adversarial": adversarial_loss(decoded), "features": feature_loss(targets, decoded)}

    def learn(self, draws: torch.Generator) -> dict[str, float]:
        """Trains the discriminator on what it has just judged, at `update_share` of the steps; its loss, to be told."""
        (recordings, decoded), self._judged = self._judged, None
        if torch.rand((), generator=draws) >= self._config.update_share:
            return {}
        parameters = list(self._discriminator.parameters())
        loss = discriminator_loss(recordings, decoded)
        # Not loss.backward(), which would go on into the codec.
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(parameters, self._config.clip)
        self._optimizer.step()
        return {"discriminator": float(loss.detach())}
