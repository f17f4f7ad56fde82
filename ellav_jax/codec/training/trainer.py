"""The training loop: reconstruction, then reconstruction against an adversary."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ellav_jax.codec.config import NUM_CODEBOOKS, CodecConfig
from ellav_jax.codec.training import network
from ellav_jax.codec.training.adversary import Adversary
from ellav_jax.codec.training.clips import Segments
from ellav_jax.codec.training.config import CodecTrainingConfig
from ellav_jax.codec.training.losses import Balancer, MelDistance, waveform_error
from ellav_jax.codec.training.optimizer import CodecOptimizer
from ellav_jax.codec.training.quantizer import TrainedCodebooks
from ellav_jax.codec.training.state import SavedState, export_weights, read_state, trained_names, write_state
from ellav_jax.codec.weights import CodecWeights
from ellav_jax.errors import RunError

STATE, WEIGHTS = "state.pt", "codec.safetensors"


class CodecTrainer:
    """One run in the folder `out`: goes on from its state file, or begins with the weights that `start()` gives.

    On one thread a run that was interrupted ends in the same bits as one that was not: batches and draws are functions of
    seed and step, and the state file has the rest.
    """

    def __init__(
        self,
        config: CodecTrainingConfig,
        segments: Segments,
        out: Path,
        start: Callable[[], CodecWeights],
        held_out: list[np.ndarray],
        report: Callable[[dict[str, float]], None],
    ):
        """held_out: clips, float32 [S] at 24 kHz, whose resynthesis is measured at each checkpoint; may be none.
        report: takes the fields of a log line. Raises InputError when the state file is none."""
        self._config, self._segments, self._out, self._report = config, segments, out, report
        self._held_out = [torch.from_numpy(clip_S) for clip_S in held_out]
        self._mel = MelDistance()
        saved = read_state(out / STATE) if (out / STATE).is_file() else _fresh(start())
        self._codec = CodecConfig(saved.filters)
        self.step, self.cpu_seconds = saved.step, saved.cpu_seconds
        self._parameters = {name: array.clone().requires_grad_() for name, array in saved.parameters.items()}
        frames = config.segments.batch * config.segments.samples // self._codec.hop
        self._quantizer = TrainedCodebooks(config.quantizer, saved.quantizer, frames)
        self.average = {name: array.clone() for name, array in saved.average.items()}
        self._balancer = Balancer(config.balance, saved.norms)
        self._optimizer = CodecOptimizer(self._parameters, config.betas, config.momentum)
        if saved.optimizer:
            self._optimizer.load_state(saved.optimizer)
        self._adversary = saved.adversary and Adversary(config.adversary, config.seed, saved.adversary)

    def run(self, steps: int, stopping: Callable[[], bool]) -> None:
        """Trains up to `steps` steps in all, or until `stopping()`, and writes a checkpoint in either case.

        Raises RunError when a loss is no number any more; the last checkpoint stays.
        """
        since_cpu, since = time.process_time(), time.monotonic()
        told: list[dict[str, float]] = []
        while self.step < steps and not stopping():
            told.append(self.train_step())
            bad = [name for name, value in told[-1].items() if not np.isfinite(value)]
            if bad:
                raise RunError(
                    f"step {self.step}: {', '.join(bad)} is no number any more; {self._out} keeps the checkpoint before, "
                    "if there was one: continue it with a lower --learning-rate"
                )
            now_cpu = time.process_time()
            self.cpu_seconds, since_cpu = self.cpu_seconds + now_cpu - since_cpu, now_cpu
            if self.step % self._config.log_every == 0:
                self._report({"step": self.step, "cpu_seconds": round(self.cpu_seconds), **_means(told)})
                told = []
            if time.monotonic() - since > 60 * self._config.save_minutes:
                self.save()
                since_cpu, since = time.process_time(), time.monotonic()
        self.save()

    def train_step(self) -> dict[str, float]:
        """One step of the codec, and of its adversary when it has joined; what is to be told of it, by name."""
        config = self._config
        draws = torch.Generator().manual_seed(config.seed * 1_000_003 + self.step)
        x_BxS = torch.from_numpy(self._segments.batch(self.step))
        codebooks = self._quantizer.draw_codebooks(draws)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            z_BxDxT = network.encode(self._parameters, x_BxS[:, None]).float()
        quantized = self._quantizer(z_BxDxT, codebooks, draws)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            y_BxS = network.decode(self._parameters, quantized.latents_BxDxT)[:, 0].float()
        logarithmic, relative = self._mel(y_BxS, x_BxS)
        losses = {"waveform": waveform_error(y_BxS, x_BxS), "spectrum": 3 * logarithmic + relative}
        told: dict[str, Any] = {}
        if self.step < config.adversary_from:
            gradient_BxS = self._balancer.gradient(losses, y_BxS)
        else:
            self._adversary = self._adversary or Adversary(config.adversary, config.seed)
            judged = self._adversary.judge(y_BxS, x_BxS)
            losses |= judged
            joined = min(1.0, (self.step - config.adversary_from) / config.adversary_joins)
            gradient_BxS = self._balancer.gradient(losses, y_BxS, dict.fromkeys(judged, joined))
            told |= self._adversary.learn(draws)
        # Its gradient is the balanced one on the waveform and the commitment's on the encoder, in one pass back.
        ((y_BxS * gradient_BxS).sum() + config.commitment * quantized.commitment).backward()
        norm = torch.nn.utils.clip_grad_norm_(self._parameters.values(), config.clip)
        self._optimizer.step(self._rate())
        self.step += 1
        self._follow()
        # Fewer codebooks sound worse: a line of their own, or the share of such steps would move the curve.
        told |= {
            f"mel_{codebooks}": logarithmic.detach(),
            "gradient": norm,
            "commitment": quantized.commitment.detach(),
        }
        told |= {name: loss.detach() for name, loss in losses.items() if name != "spectrum"}
        return {name: float(value) for name, value in told.items()} | {"codes_used": quantized.codes_used}

    def _rate(self) -> float:
        config = self._config
        return config.learning_rate * min(1, (self.step + 1) / config.warmup) * 0.5 ** (self.step / config.half_life)

    @torch.no_grad()
    def _follow(self) -> None:
        # Few steps in, the average is of few: it must not hold on to what the run began with.
        decay = min(self._config.average, (1 + self.step) / (10 + self.step))
        for arrays in (self._parameters, self._quantizer.codebooks()):
            for name, array in arrays.items():
                self.average[name].lerp_(array, 1 - decay)

    @torch.no_grad()
    def held_out_distance(self) -> float:
        """Log-mel distance (decades) of the averaged codec's resynthesis of the held-out clips, mean over the clips."""
        quantizer = TrainedCodebooks(self._config.quantizer, self.average, frames=1)
        distances = []
        for clip_S in self._held_out:
            x_1xS = clip_S[None, : len(clip_S) // self._codec.hop * self._codec.hop]
            latents_1xDxT = quantizer(network.encode(self.average, x_1xS[:, None]), NUM_CODEBOOKS).latents_BxDxT
            distances.append(float(self._mel(network.decode(self.average, latents_1xDxT)[:, 0], x_1xS)[0]))
        return float(np.mean(distances))

    def save(self) -> None:
        """Writes the state and the averaged weights, which `load_codec` reads, and reports the held-out distance."""
        saved = SavedState(
            step=self.step,
            cpu_seconds=self.cpu_seconds,
            filters=self._codec.filters,
            parameters={name: array.detach() for name, array in self._parameters.items()},
            quantizer=self._quantizer.state(),
            average=self.average,
            optimizer=self._optimizer.state(),
            adversary=self._adversary and self._adversary.state(),
            norms=self._balancer.norms,
        )
        write_state(self._out / STATE, saved)
        export_weights(self._out / WEIGHTS, self.average)
        if self._held_out:
            self._report({"step": self.step, "held_out_mel": round(self.held_out_distance(), 5)})


def _fresh(weights: CodecWeights) -> SavedState:
    arrays = {name: torch.from_numpy(array.copy()) for name, array in weights.arrays.items()}
    trained = set(trained_names(weights.config))
    return SavedState(
        step=0,
        cpu_seconds=0.0,
        filters=weights.config.filters,
        parameters={name: array for name, array in arrays.items() if name in trained},
        quantizer={name: array for name, array in arrays.items() if name not in trained},
        average=arrays,
        optimizer={},
        adversary=None,
        norms={},
    )


def _means(told: list[dict[str, float]]) -> dict[str, Any]:
    names = sorted({name for one in told for name in one})
    return {name: round(float(np.mean([one[name] for one in told if name in one])), 5) for name in names}
