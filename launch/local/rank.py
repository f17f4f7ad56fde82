"""One process of `ellav launch local` (`python -m launch.local.rank train EXPERIMENT …`).

It imports what it needs while the launcher still checks what was asked for, and begins when a line comes on standard
input: how many CPU devices to have, or nothing. When standard input ends, the launcher is no more: then so does this.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import NoReturn

from launch import cli
from launch.processes.local_processes import STOP_SECONDS


def main(arguments: Sequence[str]) -> NoReturn:
    """Runs `ellav ARGUMENTS` behind the gate and ends the process with its status."""
    import jax

    import launch.train  # noqa: F401 - what takes its time, before the gate

    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    if devices := line.strip():
        jax.config.update("jax_num_cpu_devices", int(devices))
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    try:
        status = cli.main(arguments)
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if status not in (0, 130):
        # Otherwise jax waits here for the other processes, which may wait for this one, up to five minutes.
        os._exit(status)
    sys.exit(status)


def _end_with_launcher() -> None:
    """Asks this process for a checkpoint and its end once nobody holds the other side of standard input."""
    while os.read(0, 1024):
        pass
    # Nobody reads the log any more; what is written there would fail.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1:])
