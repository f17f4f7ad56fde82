"""Processes find each other, say who is missing, and end in the same words whatever goes wrong on one of them."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ellav_jax.errors import InputError, RunError
from launch.processes.meeting import Place, enumerate_, meet, number
from tests.launch.processes.meetings import free_address, gather, outcome


def test_each_process_gets_the_judgement_on_what_all_found():
    found = gather(lambda meeting: meeting.agree("ten", lambda: meeting.place.process_id * 10, sum), 4)
    assert found == [60, 60, 60, 60]


def test_values_are_judged_in_the_order_of_processes_however_late_they_come():
    def act(meeting):
        time.sleep(0.3 - 0.1 * meeting.place.process_id)
        return meeting.agree("names", lambda: f"p{meeting.place.process_id}", lambda values: values)

    assert gather(act, 3) == [["p0", "p1", "p2"]] * 3


@pytest.mark.parametrize(
    "count, coming, missing",
    [
        (2, [0], "of 2, process 1 did not come; see what became of it"),
        (4, [0, 1], "of 4, processes 2 and 3 did not come; see what became of them"),
        (4, [0, 2], "of 4, processes 1 and 3 did not come"),
        (3, [1, 2], "of 3, process 0 did not come"),
    ],
)
def test_those_that_came_name_those_that_did_not_within_the_time_limit(count, coming, missing):
    start = time.monotonic()
    errors = gather(lambda meeting: None, count, coming, timeout=0.5)
    assert time.monotonic() - start < 3
    for error in errors:
        assert isinstance(error, RunError)
        assert str(error).startswith("the processes of this run did not meet within 0.5 s: ")
        assert missing in str(error)


def test_a_process_that_leaves_and_comes_again_is_not_missed():
    address = free_address()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(meet, Place(address, 3, 0), 10)
        host, port = address.split(":")
        with _connected(host, int(port)) as leaving:
            leaving.sendall(json.dumps({"process": 1, "processes": 3, "host": "h"}).encode() + b"\n")
        others = [threads.submit(meet, Place(address, 3, process), 10) for process in (1, 2)]
        assert [len(one.result().hosts) for one in (first, *others)] == [3, 3, 3]


def test_strangers_at_the_port_do_no_harm():
    address = free_address()
    with ThreadPoolExecutor() as threads:
        first = threads.submit(meet, Place(address, 2, 0), 10)
        host, port = address.split(":")
        for said in (b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"process": null}\n', b"\xff\xfe\n"):
            with _connected(host, int(port)) as stranger:
                stranger.sendall(said)
        second = threads.submit(meet, Place(address, 2, 1), 10)
        assert len(first.result().hosts) == len(second.result().hosts) == 2


def test_two_processes_of_one_number_are_refused_in_all():
    address = free_address()
    with ThreadPoolExecutor() as threads:
        errors = list(threads.map(lambda one: outcome(meet, Place(address, 3, one), 5), (0, 1, 1)))
    for error in errors:
        assert isinstance(error, InputError)
        assert "two processes are process 1" in str(error)


def test_processes_that_count_differently_are_refused():
    address = free_address()
    with ThreadPoolExecutor() as threads:
        places = [Place(address, 2, 0), Place(address, 3, 1)]
        errors = list(threads.map(lambda place: outcome(meet, place, 5), places))
    for error in errors:
        assert isinstance(error, InputError)
        assert "was told that there are 3 processes, process 0" in str(error)


def test_a_port_in_use_is_said():
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=rf"can't listen at \[::\]:{port} \(Address already in use\)"):
            meet(Place(f"localhost:{port}", 2, 0), 1)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_process_0_listens_where_jax_is_told_to(monkeypatch, host):
    address = free_address()
    bound = f"{host}:{address.split(':')[1]}"
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", bound)
    with ThreadPoolExecutor() as threads:
        met = list(threads.map(lambda process: meet(Place(address, 2, process), 5), (0, 1)))
    assert [len(one.hosts) for one in met] == [2, 2]
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", "192.0.2.1:1234")  # no machine has it
    with pytest.raises(InputError, match=r"can't listen at 192\.0\.2\.1:1234 \(Cannot assign requested address\)"):
        meet(Place(address, 2, 0), 1)


@pytest.mark.parametrize(
    "raised, expected",
    [
        (InputError("W is full"), InputError),
        (RunError("W is lost"), RunError),
        (PermissionError(13, "No", "W"), InputError),
    ],
    ids=["input", "run", "os"],
)
def test_the_error_of_one_process_ends_all_in_the_same_words(raised, expected):
    def act(meeting):
        def find():
            if meeting.place.process_id == 2:
                raise raised

        meeting.agree("work directory", find, lambda values: None)

    errors = gather(act, 3)
    assert {type(error) for error in errors} == {expected}
    said = "W: No" if isinstance(raised, OSError) else str(raised)
    assert {str(error) for error in errors} == {f"process 2 (host {socket.gethostname()}): {said}"}


def test_an_error_that_all_have_is_told_as_it_is():
    def act(meeting):
        def find():
            raise InputError("no such data set")

        meeting.agree("data sets", find, lambda values: None)

    assert [str(error) for error in gather(act, 3)] == ["no such data set"] * 3


def test_what_the_judge_refuses_is_refused_in_all():
    def judge(values):
        raise InputError("process 1 is odd")

    errors = gather(lambda meeting: meeting.agree("x", lambda: 1, judge), 3)
    assert [(type(error), str(error)) for error in errors] == [(InputError, "process 1 is odd")] * 3


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_process_that_ends_is_named_by_the_others(lost):
    def act(meeting):
        if meeting.place.process_id == lost:
            raise KeyError("of its own")
        meeting.agree("data sets", lambda: 1, lambda values: None)

    errors = gather(act, 3)
    for process, error in enumerate(errors):
        assert isinstance(error, KeyError if process == lost else RunError)
        if process != lost:
            assert f"process {lost} (host {socket.gethostname()}) has ended (data sets)" in str(error)


def test_a_process_that_hangs_is_named_after_the_time_limit():
    free = threading.Event()

    def act(meeting):
        if meeting.place.process_id == 1:
            free.wait(10)
            return None
        try:
            return meeting.agree("data sets", lambda: 1, lambda values: None)
        finally:
            free.set()

    errors = gather(act, 3, timeout=0.5)
    for process in (0, 2):
        assert f"process 1 (host {socket.gethostname()}) did not answer within 0.5 s (data sets)" in str(
            errors[process]
        )


def test_clocks_of_one_machine_agree_within_their_bound():
    for clocks in gather(lambda meeting: meeting.clocks(), 3):
        assert clocks[0] == (0, 0)
        assert len(clocks) == 3
        for offset, bound in clocks[1:]:
            assert 0 < bound < 1
            # Threads of one machine: what is found is the error of the measurement.
            assert abs(offset) <= bound + 1e-3


def test_a_clock_that_is_ahead_is_found_so():
    """The far process is written out here: lines of JSON, its clock 12.5 s ahead."""
    address = free_address()
    host, port = address.split(":")

    def far():
        with _connected(host, int(port)) as connection, connection.makefile("rwb") as lines:
            messages = [{"process": 1, "processes": 2, "host": "far"}]
            while True:
                lines.write(json.dumps(messages[-1]).encode() + b"\n")
                lines.flush()
                if "clocks" in json.loads(lines.readline()):
                    return
                messages.append({"time": time.time() + 12.5})

    thread = threading.Thread(target=far)
    thread.start()
    with meet(Place(address, 2, 0), 5) as meeting:
        (_, (offset, bound)) = meeting.clocks()
    thread.join()
    assert meeting.name([1]) == "process 1 (host far)"
    assert abs(offset - 12.5) <= bound + 1e-3 < 1


def test_lists_of_processes_are_said_in_english():
    assert number([3]) == "process 3"
    assert number([1, 2, 5]) == "processes 1, 2 and 5"
    assert enumerate_(["a", "b"]) == "a and b"
    assert enumerate_([str(one) for one in range(100)], most=4) == "0, 1, 2 and 97 more"


def _connected(host: str, port: int) -> socket.socket:
    """As soon as somebody listens."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return socket.create_connection((host, port), timeout=5)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
