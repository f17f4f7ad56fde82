"""What a process of a pool owes to the one that started it."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """Ends this process, one that multiprocessing started, as soon as its parent has ended, were it by SIGKILL.

    Left to itself it would go on with its work, and then wait for more for ever.
    """

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
