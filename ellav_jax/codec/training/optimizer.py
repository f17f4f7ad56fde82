"""Muon for the codec's matrices, Adam for the rest: both of PyTorch."""

from collections.abc import Mapping
from typing import Any

import torch

from ellav_jax.errors import InputError

# Muon makes a gradient's singular values equal: the first and last layer's, of one channel, have but one.
_LEAST_SIDE = 8


class CodecOptimizer:
    """One step of both at one rate. A convolution's weight [O, I, K] is to Muon the matrix [O, I * K]."""

    def __init__(self, parameters: Mapping[str, torch.Tensor], betas: tuple[float, float], momentum: float):
        """parameters: contiguous, with gradients after the pass back. betas: Adam's. momentum: Muon's.

        Raises InputError when torch has no Muon.
        """
        if not hasattr(torch.optim, "Muon"):
            raise InputError(
                f"torch {torch.__version__} has no Muon optimiser; expected 2.9 or newer: pip install -U torch"
            )
        # A view of the parameter's own memory: what Muon changes, it changes there.
        self._matrices = [(array, array.detach().flatten(1)) for array in parameters.values() if _is_matrix(array)]
        # Scaled so that an update is as large as Adam's, and one rate serves both (arXiv 2502.16982, section 2.2).
        self._muon = torch.optim.Muon(
            [matrix for _, matrix in self._matrices],
            momentum=momentum,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )
        self._adam = torch.optim.Adam((array for array in parameters.values() if not _is_matrix(array)), betas=betas)

    def step(self, rate: float) -> None:
        """Changes the parameters by their gradients at this learning rate, and forgets the gradients."""
        for optimizer in (self._muon, self._adam):
            for group in optimizer.param_groups:
                group["lr"] = rate
        for array, matrix in self._matrices:
            matrix.grad, array.grad = array.grad.flatten(1), None
        for optimizer in (self._muon, self._adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from what `state()` of another gave for parameters of the same shapes."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])


def _is_matrix(array: torch.Tensor) -> bool:
    return array.dim() > 1 and min(len(array), array[0].numel()) >= _LEAST_SIDE
