"""Whether speech ends: INF%, phones that their cap ended, duration and speed."""

import numpy as np

from ellav_jax.evaluation.metric import Column
from ellav_jax.hybrid_sequence import LayoutConfig, advance_durations

LONGEST_SECONDS = {"continuation": 25, "cross-sentence": 25, "sentences": 40}
"""T_max of INF%, by protocol. Of the first author's script, for continuation and for hard sentences; that the script's
count is the paper's INF% is inferred. For cross-sentence it is unknown: chosen as for continuation."""
SLACK_FRAMES = 5

COLUMNS = (
    Column("INF %", "didn't end by itself, phone caps on", "infinite", None, 100, 1, "lower"),
    Column("INF % no caps", "didn't end by itself, phone caps off", "infinite_uncapped", None, 100, 1, "lower"),
    Column("capped %", "phones that lasted as long as their cap lets them", "capped", "capped_of", 100, 1, "neither"),
    Column("duration", "seconds spoken over the recording's", "seconds", "reference_seconds", 1, 3, "neither"),
    Column("RTF", "seconds of computing a second of speech, less compiling", "computing", "seconds", 1, 2, "lower", False),
)  # fmt: skip


def infinite_frames(longest_seconds: float, frame_rate: int) -> int:
    """Frames at which speech counts as endless: frame rate · T_max - 5, prompt left out (unknown in the paper)."""
    return round(frame_rate * longest_seconds) - SLACK_FRAMES


def capped_phones(
    durations: np.ndarray, given: int, caps_N: np.ndarray, layout: LayoutConfig
) -> tuple[int, int] | tuple[None, None]:
    """How many phones of those behind the `given` first ones lasted as long as their caps, and of how many that is.

    durations: frames in the audio [given + N]. Caps hold in the sequence, where phones end earlier by the local advance. A
    phone that ended by itself just there counts too. (None, None) for VALL-E's AR, which knows no phones' ends.
    """
    if not layout.interleaved:
        return None, None
    spoken_N = advance_durations(np.maximum(durations, 1), layout.local_advance)[given:]
    caps_N = np.asarray(caps_N).copy()
    caps_N[-1] += layout.local_advance
    return int(np.sum(spoken_N >= caps_N)), len(caps_N)
