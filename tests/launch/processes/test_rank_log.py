"""What several processes say, in one log."""

import io
import itertools
import os

import pytest

from launch.processes.rank_log import RankLog, read_lines


def _lines(*writes):
    """What is read of a pipe that is written to piece by piece."""
    found = []
    end, start = os.pipe()
    with open(end, "rb", buffering=0) as pipe:
        lines = read_lines(pipe)
        for text in writes:
            os.write(start, text)
        os.close(start)
        found += lines
    return found


@pytest.mark.parametrize(
    ("writes", "lines"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"no end"], ["no end"]),
        ([b"a\n\nb"], ["a", "", "b"]),
        ([b"\xc3", b"\xa4\n\xff\n"], ["ä", "\ufffd"]),
        ([b"windows\r\n"], ["windows"]),
        ([b" 10 %\r 50 %\r100 %\ndone\n"], ["100 %", "done"]),
        ([b" 10 %\r", b" 50 %\r"], [" 50 %"]),
        ([], []),
    ],
)
def test_lines_are_whole_and_none_is_lost(writes, lines):
    assert _lines(*writes) == lines


@pytest.mark.parametrize("cut", range(1, 24))
def test_where_a_pipe_cuts_does_not_matter(cut):
    text = b"one\r\n5%\r10%\r\ntw\xc3\xb6\r\rlast"
    end, start = os.pipe()
    found = []
    with open(end, "rb", buffering=0) as pipe:
        lines = read_lines(pipe)
        os.write(start, text[:cut])
        # Read what there is before the rest comes.
        found += itertools.islice(lines, text[:cut].count(b"\n"))
        os.write(start, text[cut:])
        os.close(start)
        found += lines
    assert found == ["one", "10%", "last"]


def _log():
    streams = io.StringIO(), io.StringIO()
    return RankLog(*streams), *streams


def test_a_line_stands_behind_its_rank_in_the_stream_it_came_from():
    log, out, err = _log()
    log.out(0, "step 1")
    log.err(11, "careful")
    log.out(1, "")
    assert out.getvalue() == "[0] step 1\n[1]\n"
    assert err.getvalue() == "[11] careful\n"


def test_an_error_waits_until_it_is_released():
    log, _, err = _log()
    for line in ("Traceback (most recent call last):", "  File", "ValueError: a", "-----", "For simplicity, a note"):
        log.err(1, line)
    log.err(0, "warning")
    assert err.getvalue() == "[0] warning\n"
    assert log.holds(1)
    assert log.error_of_traceback(1) == "ValueError: a"
    log.release(1)
    assert err.getvalue().splitlines()[1:3] == ["[1] Traceback (most recent call last):", "[1]   File"]
    log.err(1, "more")
    assert err.getvalue().endswith("[1] more\n")


def test_the_same_mistake_is_told_once():
    log, _, err = _log()
    for rank in (0, 1, 2):
        log.err(rank, "ellav: error: no such data set" if rank < 2 else "ellav: error: another")
    assert log.take_closing_line(0) == "no such data set"
    assert log.error_of_traceback(0) is None
    for rank in (0, 1, 2):
        log.release(rank)
    assert err.getvalue() == "[2] ellav: error: another\n"
