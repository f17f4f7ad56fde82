"""The training loop."""

from contextlib import ExitStack, closing
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from ellav_jax.sharding import global_batch
from ellav_jax.training.checkpoint import Checkpoints
from ellav_jax.training.compilation_cache import watch_compilation
from ellav_jax.training.finite import check_finite
from ellav_jax.training.held_out import evaluate
from ellav_jax.training.ledger import Ledger, time_line
from ellav_jax.training.metrics import MetricsWriter, log_line
from ellav_jax.training.profiler import Profiler
from ellav_jax.training.run import Run, TrainConfig
from ellav_jax.training.step import TrainState
from ellav_jax.training.stopping import stop_after_step
from ellav_jax.training.watchdog import watchdog
from ellav_jax.training.window import Window


def train(config: TrainConfig, run: Run, workdir: Path) -> dict[str, float]:
    """Trains to `config.steps`. → the last held-out figures.

    A work directory with checkpoints continues from the latest that can be read; else the run begins with `run.params`
    where there are such, else with random parameters. SIGINT and SIGTERM end it after the step under way with a
    checkpoint, and raise KeyboardInterrupt. Raises RunError when loss or gradient is NaN or infinite: what was found is
    in `workdir`/nonfinite-STEP.json, and no checkpoint is made of it.
    """
    ledger = Ledger()
    checkpoints = Checkpoints(
        workdir / "checkpoints",
        every=config.checkpoint_every,
        keep=config.keep_checkpoints,
        keep_every=config.keep_checkpoints_every,
        card=run.card,
        say=run.say,
    )
    writer = MetricsWriter(workdir, wandb=config.wandb, about=run.card["experiment"])
    profiler = Profiler(config.profile, workdir / "profile", run.say)
    seed = np.uint32(config.seed)
    with ledger.span("start"):
        restored = checkpoints.restore(run.steps.abstract)
        state, next_row = restored or (_begin(config, run), 0)
        step = first = int(state["step"])
    run.say(f"{'resumed at' if restored else 'fresh start at'} step {step}, row {next_row}")
    figures: dict[str, float] = {}
    metrics: dict[str, jax.Array] = {}
    window = Window()

    def check(drawn: int) -> None:
        check_finite(window.metrics or [metrics], step, state["params"], (drawn, batch_rows), workdir)

    def log() -> None:
        values = window.values(step, config, run)
        run.say(log_line(step, config.steps, values))
        writer.write(step, values, split="train")

    def tell_time() -> None:
        if step > first:
            spent = ledger.entry()
            run.say(time_line(spent))
            writer.write(step, spent, split="time")

    with (
        closing(writer),
        ExitStack() as told,
        stop_after_step() as stopping,
        watchdog(config.watchdog_seconds) as feed,
        closing(checkpoints),
        closing(profiler),
        closing(run.batches(next_row)) as batches,
    ):
        told.callback(tell_time)  # however the run ends
        while step < config.steps and not stopping(step):
            feed()
            with ledger.span("data"):
                batch = next(batches)
                whole_batch = global_batch(batch, run.batch_sharding)
                batch_rows = len(whole_batch["segment_ids"])
            if window.steps == config.log_every:
                window.end_if_computed()
            with profiler.step(step + 1, metrics), ledger.span("compile" if step == first else "step"):
                with watch_compilation() as compiled:
                    state, metrics = run.steps.train(state, whole_batch, seed)
                if line := compiled.line("train step"):  # behind the first step, a batch of another shape
                    run.say(line)
                if window.steps == config.log_every:  # fetched only now, with the next step already on the devices
                    log()
                    check(batches.next_row - batch_rows)
                    window = Window(window)
                step += 1
                if step == first + 1:
                    jax.block_until_ready(metrics)
                    run.say(f"first step, with compilation: {window.seconds:.1f} s")
                    window = Window()
                else:
                    window.add(batch, batch_rows, metrics, run)
                evaluates = step % config.evaluate_every == 0 or step == config.steps
                saves = step % config.checkpoint_every == 0
                speaks = run.samples is not None and step % run.samples.every == 0
                if (evaluates or speaks) and window.steps:
                    log()
                if evaluates or saves:
                    check(batches.next_row)
            if evaluates:
                with ledger.span("evaluation"):
                    figures = evaluate(run, state)
                run.say(
                    f"step {step}  held out: " + "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
                )
                writer.write(step, figures, split="held_out")
                window = Window()
            if speaks:
                with ledger.span("samples"):
                    spoken = run.samples.speak(state.get("ema", state["params"]), step)
                    writer.write_samples(step, spoken)
                window = Window()
            with ledger.span("checkpoint"):
                checkpoints.save(step, state, batches.next_row)
        if step > first:
            check(batches.next_row)
        # Behind the loop, where no signal can come between looking for one and saving.
        with ledger.span("checkpoint"):
            checkpoints.save(step, state, batches.next_row, force=True)
            checkpoints.wait()
    if step < config.steps:
        run.say(f"stopped at step {step}, checkpoint saved; the same command continues")
        raise KeyboardInterrupt
    return figures or evaluate(run, state)


def _begin(config: TrainConfig, run: Run) -> TrainState:
    state = run.steps.init(jax.random.key(config.seed))
    if run.params is None:
        return state
    params = run.params(state["params"])
    return state | {name: jax.tree.map(jnp.copy, params) for name in ("params", "ema") if name in state}
