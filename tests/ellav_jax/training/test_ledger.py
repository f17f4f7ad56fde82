"""The ledger of a run's time, by a clock that the tests set."""

import time

import pytest

from ellav_jax.training.ledger import REST, SPANS, Ledger, time_line


class Clock:
    """Nanoseconds; `clock.seconds(2.5)` lets time pass."""

    def __init__(self):
        self.now = 10**18

    def __call__(self):
        return self.now

    def seconds(self, number):
        self.now += round(number * 1e9)


@pytest.fixture
def clock():
    return Clock()


def test_a_span_inside_a_span_is_taken_out_of_it_and_what_is_in_none_is_the_rest(clock):
    ledger = Ledger(clock)
    clock.seconds(1)
    with ledger.span("evaluation"):
        clock.seconds(2)
        with ledger.span("data"):
            clock.seconds(4)
        clock.seconds(8)
        with ledger.span("evaluation"):  # in itself: still the same work
            clock.seconds(16)
    clock.seconds(32)
    spent = ledger.entry()
    assert spent["evaluation_seconds"] == 26
    assert spent["data_seconds"] == 4
    assert spent[f"{REST}_seconds"] == 33
    assert spent["wall_seconds"] == 63


def test_the_kinds_sum_to_the_wall_time_to_the_nanosecond_inside_open_spans_and_after_errors():
    begin = time.perf_counter_ns()
    ledger = Ledger()
    with pytest.raises(KeyboardInterrupt), ledger.span("step"):
        for _ in range(1000):
            with ledger.span("data"):
                pass
        raise KeyboardInterrupt
    with ledger.span("checkpoint"):
        before = time.perf_counter_ns()
        total = sum(ledger.nanoseconds().values())
        after = time.perf_counter_ns()
    # The ledger's own readings lie between these of the same clock, and lose nothing in between.
    assert before - begin <= total + 1_000_000
    assert total <= after - begin
    assert ledger.nanoseconds()["step"] > 0


def test_sums_are_exact_whatever_the_durations(clock):
    ledger = Ledger(clock)
    begin = clock.now
    for index in range(1, 200):
        with ledger.span(SPANS[index % len(SPANS)]):
            clock.now += 1_234_567 * index + index % 7
        clock.now += index % 3
    assert sum(ledger.nanoseconds().values()) == clock.now - begin


def test_a_span_costs_microseconds():
    ledger = Ledger()
    times = []
    for _ in range(20):
        begin = time.perf_counter()
        for _ in range(100):
            with ledger.span("step"):
                pass
        times.append((time.perf_counter() - begin) / 100)
    assert min(times) < 50e-6  # 2 µs on an idle machine; a step takes milliseconds


def test_goodput_is_the_share_of_steps(clock):
    ledger = Ledger(clock)
    with ledger.span("step"):
        clock.seconds(90)
    clock.seconds(30)
    assert ledger.entry()["goodput"] == 0.75


def test_the_line_names_the_large_kinds_first_and_leaves_out_the_tiny_ones(clock):
    ledger = Ledger(clock)
    for name, seconds in {"compile": 8.25, "step": 3900, "samples": 0.2, "data": 90}.items():
        with ledger.span(name):
            clock.seconds(seconds)
    clock.seconds(1.55)
    assert time_line(ledger.entry()) == (
        "time 1h06m40s  goodput 97.5%: step 1h05m00s (97.5%), data 1m30s (2.2%), compile 8.2 s (0.2%)"
    )


def test_an_unknown_kind_is_a_mistake():
    with pytest.raises(KeyError, match="'stpe' is no kind of work"), Ledger().span("stpe"):
        pass
