"""A line between the processes of a run, which is open before JAX's own: it knows who is missing, and carries what is
compared.

JAX offers nothing for it. Where processes don't come, `jax.distributed.initialize` kills those that did (SIGABRT from C++,
which Python can't catch) and names nobody; its key-value store is there only behind it, and private; collectives have no
time limit, and want the very devices that are to be compared. So process 0 listens at the coordinator's address until all
are there, then leaves the port to JAX; the connections remain. As JAX's own service it trusts its network.
"""

import contextlib
import dataclasses
import os
import selectors
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from ellav_jax.errors import InputError, RunError
from launch.processes.message_line import Line

# Seconds by which process 0's answer may be late, behind its own time limit.
_GRACE = 10
# Seconds for the others to read why process 0 ends.
_FAREWELL = 2
_PINGS = 8


@dataclasses.dataclass(frozen=True)
class Place:
    """A process's place in a run. address: HOST:PORT of process 0, where JAX's coordination service will listen.
    local_device_ids: devices of the host that are this process's; None: all."""

    address: str
    num_processes: int
    process_id: int
    local_device_ids: tuple[int, ...] | None = None


class Meeting:
    """The processes of a run, all there. All of them call its methods, in the same order.

    hosts: the name of each process's machine. timeout: seconds that they wait for each other in each method.
    """

    def __init__(self, place: Place, hosts: Sequence[str], lines: dict[int, Line], timeout: float):
        self.place, self.hosts, self.timeout = place, tuple(hosts), timeout
        # Process 0: those to all others. Another: the one to process 0.
        self._lines = lines

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.socket.close()

    def name(self, processes: Sequence[int]) -> str:
        """ "process 3 (host h)" or "processes 1, 2 and 3 (hosts a and b)"."""
        hosts = list(dict.fromkeys(self.hosts[process] for process in processes))
        return f"{number(processes)} (host{'s' * (len(hosts) > 1)} {enumerate_(hosts)})"

    def agree(self, what: str, find: Callable[[], Any], judge: Callable[[list[Any]], Any]) -> Any:
        """Each process finds a value (JSON); process 0 judges them, in the order of processes. → its judgement, on all.

        what: names it in errors. What `judge` raises as InputError or RunError is raised in all processes, in the same
        words; so are InputError, OSError and RuntimeError of any `find`, with the process's name. RunError where one has
        ended, or takes longer than the time limit.
        """
        message = _found(find)
        if self.place.process_id:
            return self._ask(what, message)["judgement"]
        try:
            messages = [message, *self._gather(what)]
            self._raise_errors(messages)
            judgement = judge([message["value"] for message in messages])
        except (InputError, RunError) as error:
            self._end({"fault": str(error), "input": isinstance(error, InputError)})
            raise
        self._tell({"judgement": judgement})
        return judgement

    def clocks(self) -> list[tuple[float, float]]:
        """How far each process's clock is ahead of process 0's, and how much that may be wrong, in seconds; on all."""
        if self.place.process_id:
            answer = self._ask("clocks", {"time": time.time()})
            while "clocks" not in answer:
                answer = self._ask("clocks", {"time": time.time()})
            return [tuple(clock) for clock in answer["clocks"]]
        found = [(0.0, 0.0)]
        self._gather("clocks")
        for process, line in self._lines.items():
            trials = []
            for _ in range(_PINGS):
                before, start = time.time(), time.monotonic()
                try:
                    line.send({"ping": True})
                    there = line.receive(self.timeout)["time"]
                except (OSError, EOFError):
                    self._lost("clocks", [process])
                # The answer was given at some time between: halfway, give or take half of it.
                half = (time.monotonic() - start) / 2
                trials.append((half, there - (before + half)))
            half, offset = min(trials)
            found.append((offset, half))
        self._tell({"clocks": found})
        return found

    def _ask(self, what: str, message: dict[str, Any]) -> dict[str, Any]:
        try:
            self._lines[0].send(message)
            # Process 0 may come to this as late as its time limit allows, and then waits for the others as long.
            answer = self._lines[0].receive(2 * self.timeout + _GRACE)
        except TimeoutError:
            raise RunError(f"{self.name([0])} did not answer within {2 * self.timeout + _GRACE:g} s ({what})") from None
        except (OSError, EOFError):
            raise RunError(f"{self.name([0])} has ended ({what}); its own output says why") from None
        if "fault" in answer:
            raise _error(answer)
        return answer

    def _gather(self, what: str) -> list[dict[str, Any]]:
        """A message of each of the others, as they come."""
        messages: dict[int, dict[str, Any]] = {}
        deadline = time.monotonic() + self.timeout
        with selectors.DefaultSelector() as ready:
            for process, line in self._lines.items():
                line.socket.settimeout(self.timeout)
                ready.register(line.socket, selectors.EVENT_READ, process)
            while waiting := [process for process in self._lines if process not in messages]:
                events = ready.select(max(deadline - time.monotonic(), 0))
                if not events:
                    self._fail(f"{self.name(waiting)} did not answer within {self.timeout:g} s ({what})")
                for key, _ in events:
                    try:
                        message = self._lines[key.data].receive_part()
                    except (OSError, EOFError):
                        self._lost(what, [key.data])
                    if message is not None:
                        messages[key.data] = message
                        ready.unregister(key.fileobj)
        return [messages[process] for process in sorted(messages)]

    def _raise_errors(self, messages: Sequence[dict[str, Any]]) -> None:
        failed = [process for process, message in enumerate(messages) if "fault" in message]
        if not failed:
            return
        texts = list(dict.fromkeys(messages[process]["fault"] for process in failed))
        if len(texts) == 1 and len(failed) == len(messages):
            raise _error(messages[0])
        by_text = [
            f"{self.name([process for process in failed if messages[process]['fault'] == text])}: {text}"
            for text in texts
        ]
        raise _error({"fault": "; ".join(by_text), "input": all(messages[process]["input"] for process in failed)})

    def _tell(self, message: dict[str, Any]) -> None:
        for line in self._lines.values():
            with contextlib.suppress(OSError):  # who has left is missed when it is asked again
                line.send(message)

    def _lost(self, what: str, processes: Sequence[int]) -> None:
        have, their = ("has", "its") if len(processes) == 1 else ("have", "their")
        self._fail(f"{self.name(processes)} {have} ended ({what}); {their} own output says why")

    def _fail(self, fault: str) -> None:
        self._end({"fault": fault, "input": False})
        raise RunError(fault)

    def _end(self, message: dict[str, Any]) -> None:
        """The last that the others hear."""
        self._tell(message)
        deadline = time.monotonic() + _FAREWELL
        for line in self._lines.values():
            line.close(max(deadline - time.monotonic(), 0.01))


def meet(place: Place, timeout: float) -> Meeting:
    """Waits until all processes are there, at most `timeout` seconds.

    Raises RunError, on those that came, with the numbers of those that didn't (without process 0, the others don't know of
    each other); InputError where two have one number, where they disagree on how many they are, or where process 0 can't
    listen.
    """
    return _host(place, timeout) if place.process_id == 0 else _attend(place, timeout)


def _host(place: Place, timeout: float) -> Meeting:
    count, own = place.num_processes, socket.gethostname()
    hosts, lines = {0: own}, {}
    fault, bad_input = "", False
    deadline = time.monotonic() + timeout
    with _listen(place) as listener, selectors.DefaultSelector() as ready:
        ready.register(listener, selectors.EVENT_READ)
        while len(lines) < count - 1 and not fault:
            events = ready.select(max(deadline - time.monotonic(), 0))
            if not events and time.monotonic() >= deadline:
                fault = _missing([one for one in range(count) if one not in hosts], place, timeout)
            for key, _ in events:
                if key.fileobj is listener:
                    with contextlib.suppress(OSError):  # it has left already
                        connection, _ = listener.accept()
                        ready.register(connection, selectors.EVENT_READ, Line(connection, timeout))
                    continue
                try:
                    hello = key.data.receive_part()
                    if hello is None:
                        continue
                    process, there, host = int(hello["process"]), int(hello["processes"]), str(hello["host"])
                except (OSError, EOFError, LookupError, TypeError, ValueError):
                    # It has left, and may come again; or it is none of ours.
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
                    for gone in [one for one, line in lines.items() if line is key.data]:
                        del lines[gone], hosts[gone]
                    continue
                if there != count:
                    fault = (
                        f"process {process} (host {host}) was told that there are {there} processes, process 0 (host "
                        f"{own}) that there are {count}; start all with the same number"
                    )
                elif process in hosts:
                    fault = (
                        f"two processes are process {process}: on host {hosts[process]} and on host {host}; give each a "
                        "number of its own"
                    )
                if fault:
                    bad_input = True
                    with contextlib.suppress(OSError):
                        key.data.send({"fault": fault, "input": True})
                        key.data.close(_FAREWELL)
                    break
                lines[process], hosts[process] = key.data, host
    meeting = Meeting(place, [hosts.get(one, "?") for one in range(count)], dict(sorted(lines.items())), timeout)
    # The port is free from here on: JAX may take it as soon as they know that all are there.
    if fault:
        error = {"fault": fault, "input": bad_input}
        meeting._end(error)
        raise _error(error)
    meeting._tell({"hosts": meeting.hosts})
    return meeting


def _listen(place: Place) -> socket.socket:
    # Where JAX's service listens: at all addresses of this machine, or where its own variable says.
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", f"[::]:{place.address.rpartition(':')[2]}")
    host, _, port = bound.rpartition(":")
    options: dict[str, Any] = {"backlog": place.num_processes}
    try:
        if host == "[::]" and socket.has_dualstack_ipv6():
            return socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, **options)
        if host == "[::]":
            return socket.create_server(("", int(port)), **options)
        family, *_, address = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, **options)
    except OSError as error:
        why = error.strerror.partition(" (while")[0]  # Python says the address once more
        raise InputError(f"process 0 can't listen at {bound} ({why}); stop what does, or choose another port") from None


def _attend(place: Place, timeout: float) -> Meeting:
    host, _, port = place.address.rpartition(":")
    hello = {"process": place.process_id, "processes": place.num_processes, "host": socket.gethostname()}
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        with contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as held:
            # It fails where nobody listens yet, where process 0 starts anew, or where somebody else listens.
            connection = held.enter_context(socket.create_connection((host.strip("[]"), int(port)), timeout=left))
            line = Line(connection, timeout)
            line.send(hello)
            # Process 0 may have begun to wait just now.
            answer = line.receive(timeout + _GRACE)
            if "fault" in answer:
                raise _error(answer)
            held.pop_all()
            return Meeting(place, answer["hosts"], {0: line}, timeout)
        time.sleep(min(0.1, left))
    raise RunError(_missing([0], place, timeout))


def _missing(processes: Sequence[int], place: Place, timeout: float) -> str:
    return (
        f"the processes of this run did not meet within {timeout:g} s: of {place.num_processes}, {number(processes)} did "
        f"not come; see what became of {'it' if len(processes) == 1 else 'them'}, and whether process 0 can be reached at "
        f"{place.address}"
    )


def _found(find: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"value": find()}
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return {"fault": f"{where}{error.strerror or error}", "input": True}
    except (InputError, RuntimeError) as error:
        return {"fault": str(error), "input": isinstance(error, InputError)}


def _error(message: dict[str, Any]) -> InputError | RunError:
    return (InputError if message["input"] else RunError)(message["fault"])


def number(processes: Sequence[int]) -> str:
    """ "process 3" or "processes 1, 2 and 3"."""
    return f"process{'es' * (len(processes) > 1)} {enumerate_([str(process) for process in processes])}"


def enumerate_(words: Sequence[str], most: int = 16) -> str:
    """ "a, b and c"; of many, the first and how many more."""
    if len(words) > most:
        words = [*words[: most - 1], f"{len(words) - most + 1} more"]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
