"""One client writes a file and keeps it open; another cuts, grows or rewrites it, and that returns; then the first one writes on.

What it writes then comes after the change, whatever it knew of the file before: every client reads the changed file with
these bytes in it (DESIGN section 3, "Consistency").
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress

import pytest

from mooseng_py.demo.harness import Cluster
from tests.sharing.support import Held, Place, first_difference, places

DELAYS_S = [0.0, 0.03, 1.0, pytest.param(5.0, marks=pytest.mark.soak), pytest.param(12.0, marks=pytest.mark.soak)]
TAIL = b"tail" * 5000

# What the other client does to a file of so many bytes, and what the file is then.
Change = Callable[[Place, str, bytes], bytes]


def _cut(place: Place, name: str, size: int, before: bytes) -> bytes:
    place.cut(name, size)
    return before[:size] + bytes(max(0, size - len(before)))


def _anew(place: Place, name: str, data: bytes) -> bytes:
    place.write_anew(name, data)
    return data


CHANGES: dict[str, Change] = {
    "cut to half": lambda place, name, before: _cut(place, name, len(before) // 2, before),
    "cut to 100": lambda place, name, before: _cut(place, name, 100, before),
    "cut to nothing": lambda place, name, before: _cut(place, name, 0, before),
    "grown": lambda place, name, before: _cut(place, name, len(before) + 50_000, before),
    "cut and grown": lambda place, name, before: _cut(
        place, name, len(before), _cut(place, name, len(before) // 2, before)
    ),
    "written anew, shorter": lambda place, name, _: _anew(place, name, b"n" * 30),
    "written anew, longer": lambda place, name, before: _anew(place, name, b"n" * (len(before) + 20_000)),
}


class Case:
    """One file, one way of writing on. `looks`: the size is asked for first, and written from there on."""

    def __init__(self, trio: list[Place], name: str, size: int, how: str, looks: bool) -> None:
        self.here, self.there, self.third = trio
        self.name, self.how, self.looks = name, how, looks
        self.before = b"\xee" * size
        self.held: list[Held] = []
        first = self.here.open(name, create=True, append=how == "appends")
        first.add(self.before) if how == "appends" else first.put(0, self.before)
        first.fsync()
        self.held.append(first)
        if how in ("opened anew", "opened again"):
            self.held.clear()
            if how == "opened anew":
                self.held.append(self.here.open(name, write=False))
                self.held[0].get(0, 10)
            first.close()
        elif how == "third":
            self.held.append(self.third.open(name))
            self.held[-1].get(0, 10)
        self.after = self.before

    def change(self, change: Change) -> None:
        self.after = change(self.there, self.name, self.before)

    def write_on(self) -> str:
        """Write and fsync as the case says; what is wrong then, or nothing."""
        anew = self.how in ("opened anew", "opened again")
        try:
            if self.looks and (seen := self.here.size(self.name)) != len(self.after):
                return f"{self}: the size is seen as {seen}, right is {len(self.after)}"
            writer = self.here.open(self.name) if anew else self.held[-1]
            began = time.monotonic()
            if self.how == "appends":
                at = len(self.after)
                writer.add(TAIL)
            else:
                at = len(self.after) if self.looks else len(self.before) * 3 // 4
                writer.put(at, TAIL)
            writer.fsync()
            took_s = time.monotonic() - began
            if anew:
                writer.close()
        except OSError as error:
            return f"{self}: {error!r}, right is that fsync succeeds"
        finally:
            for held in self.held:
                with suppress(OSError):
                    held.close()
        right = bytearray(self.after + bytes(max(0, at - len(self.after))))
        right[at : at + len(TAIL)] = TAIL
        for index, place in enumerate((self.here, self.there, self.third), 1):
            if wrong := first_difference(place.read(self.name), bytes(right)):
                return f"{self}: client {index} reads {wrong}"
        return "" if took_s < 10 else f"{self}: {took_s:.0f} s for a write and fsync"

    def __str__(self) -> str:
        return self.name


@pytest.mark.parametrize("delay_s", DELAYS_S)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["sdk", "mounts"])
def test_what_is_written_after_another_client_changed_the_size_is_there(
    cluster: Cluster, kind: str, change: str, delay_s: float
) -> None:
    with places(cluster, kind) as trio:
        cases = [
            Case(trio, f"{kind}, {change}, {delay_s} s, {size}, {how}{', looks' * looks}", size, how, looks)
            for size in (6_000, 200_000)
            for how in ("held", "appends", "third", "opened anew", "opened again")
            for looks in (False, True)
        ]
        if delay_s:
            for case in cases:
                case.change(CHANGES[change])
            time.sleep(delay_s)  # nothing is waited for: it is the age of the change that matters
        with ThreadPoolExecutor(len(cases)) as pool:
            running = []
            for case in cases:
                if not delay_s:
                    case.change(CHANGES[change])
                running.append(pool.submit(case.write_on))
            wrong = [done.result() for done in as_completed(running) if done.result()]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["sdk", "mounts"])
def test_a_log_that_another_client_copies_and_cuts_again_and_again_loses_no_later_line(
    cluster: Cluster, kind: str
) -> None:
    """As log rotation by copytruncate does it, the appender idle meanwhile. Source: logrotate(8)."""
    with places(cluster, kind) as (appender, rotator, reader):
        log = appender.open(f"{kind}-log", create=True, append=True)
        lines = [b"%06d " % number + b"x" * 12_000 + b"\n" for number in range(60)]
        for number, line in enumerate(lines):
            log.add(line)
            log.fsync()
            if number % 12 == 11:
                kept = b"".join(lines[number - 11 : number + 1])
                assert not first_difference(reader.read(f"{kind}-log"), kept)
                rotator.cut(f"{kind}-log", 0)
                assert reader.size(f"{kind}-log") == 0
        log.close()
        assert reader.size(f"{kind}-log") == 0


@pytest.mark.parametrize("kind", ["sdk", "mounts"])
def test_what_came_after_a_cut_is_read_under_bytes_that_wait_here(cluster: Cluster, kind: str) -> None:
    with places(cluster, kind, 2) as (here, there):
        for turn in range(6):
            name = f"under-{kind}-{turn}"
            there.write_anew(name, b"")
            writer, reader = here.open(name), here.open(name, write=False)
            writer.put(0, b"old" * 10_000)
            writer.fsync()
            reader.get(0, 30_000)
            # Beyond what fits into an inode; nobody syncs it.
            writer.put(12_288, b"ours" * 1024)
            there.cut(name, 0)
            newest = turn.to_bytes(2, "little") * 2048
            other = there.open(name)
            other.put(0, newest)
            other.fsync()
            size = here.size(name)
            assert size >= len(newest)
            seen = reader.get(0, len(newest))
            assert seen == newest, f"turn {turn}: {first_difference(seen, newest)}"
            for held in (writer, reader, other):
                held.close()
