"""The figures of a run beside their targets: `python -m benchmarks.report RESULTS.json`. Reads results, measures nothing."""

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]
"""What each benchmark put into extra_info, by its name."""

TO_KNOW = "to know"


@dataclass(frozen=True)
class Figure:
    """One number that is promised: three copies, durable, demo profile, two cores."""

    what: str
    benchmark: str
    key: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    def target(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:,g} {self.unit}"
        return f"<= {self.at_most:,g} {self.unit}" if self.at_most is not None else TO_KNOW

    def holds(self, measured: float) -> bool:
        return (self.at_least is None or measured >= self.at_least) and (
            self.at_most is None or measured <= self.at_most
        )


FIGURES = [
    Figure("nine nodes ready", "bench_nine_nodes_ready", "ready_s", "s", at_most=8),
    Figure("sequential write through FUSE", "bench_sequential_write", "mb_per_s", "MB/s", at_least=150),
    Figure("cold read through FUSE", "bench_sequential_read_cold", "mb_per_s", "MB/s", at_least=600),
    Figure(
        "4 KiB create+write+close, 1 worker", "bench_create_write_close_4k[1-worker]", "operations_per_s", "/s", 800
    ),
    Figure(
        "the same, 8 workers in one directory", "bench_create_write_close_4k[8-workers]", "operations_per_s", "/s", 2000
    ),
    Figure(
        "the same, 8 workers with their own",
        "bench_create_write_close_4k[8-workers-8-directories]",
        "operations_per_s",
        "/s",
        2000,
    ),
    Figure("stall at leader fail-over", "bench_longest_stall[leader]", "longest_stall_s", "s", at_most=3),
    Figure("stall at a chunkserver's death", "bench_longest_stall[chunkserver]", "longest_stall_s", "s", at_most=1),
    Figure("CRC-32C on one core", "bench_crc32c[1-mib-cached]", "mb_per_s", "MB/s", at_least=10_000),
    Figure(
        "chunk store write / plain loop",
        "bench_store_write_against_a_plain_loop",
        "ratio_to_plain_loop",
        "",
        at_least=0.9,
    ),
    Figure("master's memory per file", "bench_memory_of_a_file[empty]", "bytes_per_file", "bytes"),
]


def target_lines(results: Results) -> list[str]:
    """One line for each figure whose benchmark ran."""
    lines = []
    for figure in FIGURES:
        measured = results.get(figure.benchmark, {}).get(figure.key)
        if measured is not None:
            mark = "" if figure.target() == TO_KNOW else "holds" if figure.holds(measured) else "MISSED"
            lines.append(f"{figure.what:<36} {figure.target():>16}   {measured:>10,g} {figure.unit:<6} {mark}".rstrip())
    return lines


def detail_lines(results: Results) -> list[str]:
    """Everything that the benchmarks noted, one line each."""
    return [f"{name:<56} {_shown(info)}" for name, info in results.items() if info]


def _shown(info: Mapping[str, Any]) -> str:
    return "  ".join(f"{key}={value:,g}" if _is_number(value) else f"{key}={value}" for key, value in info.items())


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_results(path: Path) -> Results:
    """Results as pytest-benchmark wrote them with --benchmark-json. Raises: OSError, ValueError."""
    return {entry["name"]: entry["extra_info"] for entry in json.loads(path.read_text())["benchmarks"]}


def report(results: Results) -> Iterable[str]:
    yield from detail_lines(results)
    yield ""
    yield from target_lines(results)


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python -m benchmarks.report RESULTS.json", file=sys.stderr)
        return 2
    print("\n".join(report(read_results(Path(sys.argv[1])))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
