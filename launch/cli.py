"""The `ellav` command: finds the subcommand, and is the one place where errors become an exit status.

0 success · 1 failure · 2 bad arguments or bad input · 130 interrupted. Only the standard library is imported before the
subcommand is known, so that `ellav --help` answers at once.
"""

import _thread
import atexit
import dataclasses
import errno
import importlib
import os
import sys
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import NoReturn

from ellav_jax.errors import InputError, RunError

DISTRIBUTION = "ellav-jax"


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand: `target` is "module:function"; the function takes the arguments after the subcommand's name."""

    help: str
    target: str
    continues: bool = False
    """Whether the same command, given again after an interruption, continues where it stopped."""


COMMANDS = {
    "prepare": Command("recordings and transcripts → aligned data set", "launch.prepare:main", continues=True),
    "inspect": Command("what a data set holds, without a device", "launch.inspect:main"),
    "train": Command("data sets → checkpoints of a GAR or NAR", "launch.train:main", continues=True),
    "plan": Command("compile the training step for hardware that isn't there", "launch.plan:main"),
    "launch": Command(
        "the same training job on this machine, Slurm, Kubernetes, TPU VMs or any cloud's GPUs", "launch.launch:main"
    ),
    "synthesize": Command("text and a voice prompt → a waveform", "launch.synthesize:main"),
    "evaluate": Command(
        "what models say, judged beside ground truth → a report", "launch.evaluate:main", continues=True
    ),
    "export": Command("a checkpoint → PyTorch: weights, description, one self-contained file", "launch.export:main"),
    "import": Command("an exported model, fine-tuned in PyTorch say → a checkpoint", "launch.import_model:main"),
    "train-codec": Command("recordings → weights of an EnCodec", "launch.train_codec:main", continues=True),
    "demo": Command("all of it on the bundled speech → a page to hear and see", "launch.demo:main", continues=True),
    "paper-in-small": Command(
        "ELLA-V, VALL-E's AR and ablations on the bundled speech → tables", "launch.paper_in_small:main", continues=True
    ),
    "doctor": Command("what works on this machine, or between the processes of a run", "launch.doctor:main"),
    "bench": Command(
        "throughput, compared and scaled: ellav bench train|decode|codec|data|compare|scaling", "launch.bench:main"
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit status; without `arguments`, the process's own, which ends it."""
    if arguments is None:
        sys.unraisablehook = _keep_interrupts
        _exit(main(sys.argv[1:]))
    arguments = list(arguments)
    for stream in (sys.stdout, sys.stderr):
        # A terminal without Unicode shows "?" for an arrow, instead of ending the command.
        stream.reconfigure(errors="replace")
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_usage(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    name, *rest = arguments
    if name == "--version":
        print(f"ellav {version()}")
        return 0
    if name not in COMMANDS:
        return _fail(f"unknown command {name!r}; the commands are: {', '.join(COMMANDS)} (see ellav --help)", 2)
    return _run(COMMANDS[name], rest)


def _run(command: Command, arguments: list[str]) -> int:
    try:
        module, function = command.target.split(":")
        getattr(importlib.import_module(module), function)(arguments)
        sys.stdout.flush()
        return 0
    except InputError as error:
        return _fail(str(error), 2)
    except RunError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        way_on = "; the same command continues where this one stopped" if command.continues else ""
        print(f"\nellav: interrupted{way_on}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has left (`ellav inspect OUT | head`). Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # EFBIG is the limit on file size (ulimit -f), EDQUOT the user's quota: full as well, to whoever writes.
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        way_on = "make room and give the same command again" if command.continues else "make room and try again"
        return _fail(f"no space left{where} ({error.strerror}); {way_on}", 1)


def _keep_interrupts(unraisable: "sys.UnraisableHookArgs") -> None:
    # Python drops a Ctrl-C that arrives inside a callback of the garbage collector, and jax has one (1 in 10 was lost in
    # our trials). Send it again, from a thread, to arrive after that callback.
    if unraisable.exc_type is KeyboardInterrupt:
        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(unraisable)


def _exit(status: int) -> NoReturn:
    # After an error jax may still be computing, and then crashes (SIGSEGV) while the interpreter is taken down. So run
    # what a normal exit runs, and leave the rest to the kernel.
    if status:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(0)


def _fail(message: str, status: int) -> int:
    print(f"ellav: error: {' '.join(message.split())}", file=sys.stderr)
    return status


def version() -> str:
    """Of ellav-jax, as it is installed."""
    try:
        return metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return "(not installed: run from a source tree)"


def _usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {command.help}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ellav COMMAND …",
            "",
            "ELLA-V, a neural codec language model for zero-shot text-to-speech, in JAX.",
            "",
            "commands:",
            *lines,
            "",
            "  ellav COMMAND --help   the options of a command",
            "  ellav --version        the version",
        ]
    )


if __name__ == "__main__":
    main()
