"""Maxima for several readers."""

from mooseng_py.native._peaks import Metric, Peaks


def look(value: float, op: str = "read") -> list[Metric]:
    return [("x_seconds_max", {"op": op}, value), ("x_total", {}, value)]


def told(peaks: Peaks, reader: str, value: float) -> float:
    metrics = look(value)
    peaks.see(metrics)
    return peaks.taken(reader, metrics)[0][2]


def test_each_reader_learns_the_largest_value_since_its_own_last_look() -> None:
    peaks = Peaks()
    assert told(peaks, "", 1.0) == 1.0
    assert told(peaks, "dashboard", 5.0) == 5.0
    assert told(peaks, "", 2.0) == 5.0
    assert told(peaks, "dashboard", 0.5) == 2.0


def test_a_look_of_nobody_in_particular_loses_no_maximum() -> None:
    peaks = Peaks()
    peaks.see(look(9.0))  # a health check
    assert told(peaks, "", 1.0) == 9.0
    assert told(peaks, "", 1.0) == 1.0


def test_counters_and_other_labels_are_left_alone() -> None:
    peaks = Peaks()
    peaks.see(look(9.0, op="write"))
    metrics = look(1.0)
    peaks.see(metrics)
    assert peaks.taken("", metrics) == metrics


def test_made_up_readers_do_not_fill_memory() -> None:
    peaks = Peaks()
    for number in range(1000):
        told(peaks, f"reader-{number}", 1.0)
    assert len(peaks._waiting) <= 8
