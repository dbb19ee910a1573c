"""Rates from counters: restarts, silence and missing series."""

from __future__ import annotations

from mooseng_py.dashboard.rates import HISTORY, SERIES, Counters, Rates, per_second

READ = SERIES["read_bytes"]
NAMES = SERIES["name_ops"]


def counted(at_s: float, value: float, started: float = 1.0, name: str = READ) -> Counters:
    return Counters(at_s, started, {name: value})


def test_a_rate_is_growth_over_time() -> None:
    assert per_second(counted(10, 100), counted(12, 300)) == {"read_bytes": 100.0}
    assert per_second(counted(10, 100), counted(12, 100)) == {"read_bytes": 0.0}


def test_a_restarted_process_counts_from_zero_and_never_gives_a_negative_rate() -> None:
    assert per_second(counted(10, 1000), counted(12, 60, started=2.0)) == {"read_bytes": 30.0}
    assert per_second(counted(10, 1000), counted(12, 60)) == {"read_bytes": 30.0}


def test_two_looks_at_one_moment_and_series_never_seen_give_nothing() -> None:
    assert per_second(counted(10, 1), counted(10, 2)) == {}
    assert per_second(counted(10, 1), counted(12, 2, name=NAMES)) == {}


def test_nodes_add_up_and_a_silent_one_is_left_out_and_not_taken_for_idle() -> None:
    rates = Rates()
    rates.add(1000, {"a": counted(1, 0), "b": counted(1, 0)})
    assert list(rates.history) == []  # one look is no rate
    rates.add(3000, {"a": counted(3, 20), "b": counted(3, 40)})
    rates.add(5000, {"a": counted(5, 40)})
    rates.add(7000, {"a": counted(7, 40), "b": counted(7, 80)})
    assert [(point.nodes, point.rates["read_bytes"]) for point in rates.history] == [(2, 30.0), (1, 10.0), (2, 10.0)]
    assert rates.nodes["b"] == {"read_bytes": 10.0}  # over the four seconds since it last answered


def test_only_the_last_minutes_are_kept() -> None:
    rates = Rates()
    for step in range(HISTORY + 20):
        rates.add(step, {"a": counted(step, step)})
    assert len(rates.history) == HISTORY
