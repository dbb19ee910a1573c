"""Several machines append to one file, others follow it: within its size there is never a byte that nobody wrote.

One of them has the turn to append at a time. Who has it and falls silent loses it after 3 s, and what it sent then is
void (DESIGN section 3, "Consistency").
"""

import errno
import os
import re
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Activity, Cluster, wait_until
from mooseng_py.proto import common_pb2, name_pb2
from mooseng_py.sdk import connect
from tests.sharing.support import FramesClient, Refused, first_difference, paused, pid_of, same

TURN_S = 3.0
# A stall as the contract has it, and what a busy machine adds.
STALL_S = TURN_S + 2.0
PIECE = bytes(range(1, 256)) * 12
RECORD = re.compile(rb"(\d)-(\d{6})-(x*);")


def record(mount: int, number: int) -> bytes:
    """Its length follows from its number: inline ones, ones of a few blocks, and of some hundred KiB now and then."""
    length = (200, 5_000, 13_000, 70_000)[number % 4] if number % 29 else 300_000
    return b"%d-%06d-" % (mount, number) + b"x" * length + b";"


def numbers(content: bytes, what: str) -> dict[int, list[int]]:
    """The numbers of the records in `content` by mount, in the order they stand. Fails unless all of it is whole records."""
    found: dict[int, list[int]] = {1: [], 2: [], 3: []}
    at = 0
    while at < len(content):
        match = RECORD.match(content, at)
        assert match, f"{what}: at {at} of {len(content)} no record begins: {content[at : at + 30]!r}"
        mount, number = int(match[1]), int(match[2])
        difference = first_difference(match[0], record(mount, number))
        assert not difference, f"{what}: record {number} of mount {mount} at {at} was split: {difference}"
        found[mount].append(number)
        at = match.end()
    return found


def none_lost_or_doubled(content: bytes, right: dict[int, int]) -> None:
    """All records of these mounts, each once, each mount's in its order."""
    found = numbers(content, "in the end")
    for mount, count in right.items():
        doubled = [number for number, times in Counter(found[mount]).items() if times > 1]
        lost = sorted(set(range(count)) - set(found[mount]))
        assert not doubled, f"mount {mount}: records {doubled[:9]} stand there more than once"
        assert not lost, f"mount {mount}: {len(lost)} of {count} records are lost, the first are {lost[:9]}"
        assert found[mount] == list(range(count)), f"mount {mount}: its records are not in their order"


class Follower:
    """Reads a growing file through a descriptor kept open, as `tail -F` does; keeps what it got."""

    def __init__(self, path: Path) -> None:
        self.got = bytearray()
        self.over = threading.Event()
        self.file = path.open("rb", buffering=0)
        self.error: OSError | None = None
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        try:
            while not self.over.wait(0.05):
                self._take()
            self._take()
        except OSError as error:
            self.error = error

    def _take(self) -> None:
        while len(self.got) < os.fstat(self.file.fileno()).st_size:
            piece = os.pread(self.file.fileno(), 1 << 20, len(self.got))
            if not piece:
                break
            self.got += piece

    def stop(self) -> bytes:
        self.over.set()
        self.thread.join(60)
        self.file.close()
        assert not self.error, f"the follower: {self.error!r}"
        return bytes(self.got)


@pytest.mark.parametrize("flags", [0, os.O_APPEND], ids=["plain", "append"])
@pytest.mark.parametrize("synced", [False, True])
@pytest.mark.parametrize("pace_s", [0.1, pytest.param(0.5, marks=pytest.mark.soak)])
def test_who_follows_a_file_on_another_mount_gets_only_bytes_that_were_written(
    cluster: Cluster, flags: int, synced: bool, pace_s: float
) -> None:
    """A program writes piece by piece and keeps the file open; the reader may be late, never wrong."""
    name = f"followed-{flags}-{synced}-{pace_s}"
    (cluster.mount(1) / name).write_bytes(PIECE * 5 if flags else b"")
    follower = Follower(cluster.mount(2) / name)
    fd = os.open(cluster.mount(1) / name, os.O_WRONLY | flags)
    try:
        for _ in range(20):
            os.write(fd, PIECE)
            if synced:
                os.fsync(fd)
            time.sleep(pace_s)  # the pace of the program
    finally:
        os.close(fd)
        wrote = PIECE * (25 if flags else 20)
        got = follower.stop()
    assert not got.count(0), (
        f"{got.count(0)} of {len(got)} bytes are zeros, the first at {got.index(0)}; nobody wrote any"
    )
    same(got, wrote[: len(got)], "the follower")
    assert (cluster.mount(3) / name).read_bytes() == wrote


def appender(cluster: Cluster, mount: int, name: str, *, synced: int = 3) -> tuple[Activity, dict[str, int]]:
    """Appends its records for ever; every `synced`-th is fsynced. The second value: how many are."""
    fd = os.open(cluster.mount(mount) / name, os.O_WRONLY | os.O_APPEND)
    stable = {"fd": fd, "count": 0}

    def step(number: int) -> None:
        data = record(mount, number)
        assert os.write(fd, data) == len(data)
        if number % synced == 0:
            os.fsync(fd)
            stable["count"] = number + 1
        time.sleep(0.02)  # a pace, so that the file stays small

    return Activity(f"appending on mount {mount}", step), stable


@pytest.fixture
def journal(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A file of its own for each test."""
    name = re.sub(r"\W+", "-", request.node.name)[-60:]
    (cluster.mount(1) / name).touch()
    return name


def test_records_appended_on_three_mounts_at_once_are_all_there_once_and_whole(cluster: Cluster, journal: str) -> None:
    follower = Follower(cluster.mount(2) / journal)
    appenders = {mount: appender(cluster, mount, journal) for mount in (1, 2, 3)}
    with ExitStack() as stack:
        for activity, _ in appenders.values():
            stack.enter_context(activity.going_on())
        wait_until("records", lambda: all(a.errors or a.done > 60 for a, _ in appenders.values()), timeout_s=60)
    for activity, stable in appenders.values():
        assert not activity.errors
        os.close(stable["fd"])
    content = (cluster.mount(3) / journal).read_bytes()
    none_lost_or_doubled(content, {mount: activity.done for mount, (activity, _) in appenders.items()})
    got = follower.stop()
    same(got, content[: len(got)], "the follower, beside what stands there")


def test_an_appender_that_has_the_turn_and_falls_silent_costs_the_others_three_seconds(
    cluster: Cluster, journal: str
) -> None:
    """It goes on much later: what it sent is void, and it is told so."""
    first = record(1, 3)
    with (cluster.mount(1) / journal).open("ab", buffering=0) as file, FramesClient(cluster, "silent") as silent:
        file.write(first)
        os.fsync(file.fileno())
        inode = silent.open(journal)
        begun = silent.ask(append_begin=name_pb2.AppendBegin(inode=inode))
        assert begun.offset == len(first)
        began = time.monotonic()
        with (cluster.mount(2) / journal).open("ab", buffering=0) as other:
            other.write(record(2, 2))
            other.write(record(2, 3))
            os.fsync(other.fileno())
        took_s = time.monotonic() - began
        assert took_s < STALL_S, f"the others waited {took_s:.1f} s"
        commit = name_pb2.CommitWrite(inode=inode, size=begun.offset + 100, append=True)
        with pytest.raises(Refused) as refused:
            silent.ask(commit_write=commit)
        assert (refused.value.error.errno, refused.value.error.reason) == (errno.ESTALE, common_pb2.REASON_TURN_LOST)
    assert numbers((cluster.mount(3) / journal).read_bytes(), "afterwards") == {1: [3], 2: [2, 3], 3: []}


def test_a_second_appender_is_told_that_the_turn_is_taken_and_has_it_after_a_commit(
    cluster: Cluster, journal: str
) -> None:
    (cluster.mount(1) / journal).write_bytes(record(1, 3))
    end = len(record(1, 3))
    with FramesClient(cluster, "one") as one, FramesClient(cluster, "two") as two:
        inode = one.open(journal)
        two.open(journal)
        assert one.ask(append_begin=name_pb2.AppendBegin(inode=inode)).offset == end
        with pytest.raises(Refused) as refused:
            two.ask(append_begin=name_pb2.AppendBegin(inode=inode))
        assert (refused.value.error.errno, refused.value.error.reason) == (errno.EBUSY, common_pb2.REASON_TURN_TAKEN)
        one.ask(commit_write=name_pb2.CommitWrite(inode=inode, size=end, append=True))
        assert two.ask(append_begin=name_pb2.AppendBegin(inode=inode)).offset == end


@pytest.mark.parametrize("how", ["paused", "killed"])
def test_a_mount_that_stops_amid_appending_costs_the_others_seconds_and_destroys_nothing(
    cluster: Cluster, journal: str, how: str
) -> None:
    """Paused, it goes on after more than its turn: its records are then all there too, once and whole."""
    appenders = {mount: appender(cluster, mount, journal) for mount in (1, 2, 3)}
    activities = {mount: activity for mount, (activity, _) in appenders.items()}
    follower = Follower(cluster.mount(2) / journal)
    with ExitStack() as stack:
        for activity in activities.values():
            stack.enter_context(activity.going_on())
        wait_until("records", lambda: all(a.errors or a.done > 15 for a in activities.values()), timeout_s=60)
        pid = pid_of(cluster, "client-3")
        if how == "paused":
            with paused(pid):
                time.sleep(2 * TURN_S)  # longer than any turn
            reached = activities[3].done
            wait_until("it goes on", lambda: activities[3].errors or activities[3].done > reached + 5, timeout_s=60)
        else:
            os.kill(pid, signal.SIGKILL)
        reached = {mount: activities[mount].done for mount in (1, 2)}  # type: ignore[assignment]
        for mount in (1, 2):
            wait_until("the others go on", partial(_beyond, activities[mount], reached[mount] + 10), timeout_s=60)  # type: ignore[index]
    for mount in (1, 2):
        assert not activities[mount].errors
        os.close(appenders[mount][1]["fd"])
        assert activities[mount].longest_gap_s < STALL_S, (
            f"mount {mount} waited {activities[mount].longest_gap_s:.1f} s"
        )
    if how == "paused":
        assert not activities[3].errors
    try:
        os.close(appenders[3][1]["fd"])
    except OSError:
        assert how == "killed"
    if how == "killed":
        cluster.restart("client-3")
    content = (cluster.mount(2) / journal).read_bytes()
    right = {mount: activities[mount].done for mount in ((1, 2, 3) if how == "paused" else (1, 2))}
    none_lost_or_doubled(content, right)
    thirds = numbers(content, "in the end")[3]
    assert thirds == list(range(len(thirds))), "records of the mount that stopped are doubled, or missing before others"
    assert len(thirds) >= appenders[3][1]["count"], "a record that was fsynced is lost"
    got = follower.stop()
    same(got, content[: len(got)], "the follower, beside what stands there")


def _beyond(activity: Activity, count: int) -> bool:
    return bool(activity.errors) or activity.done > count


@pytest.mark.parametrize("how", ["process", "connection"])
def test_an_appending_process_that_is_gone_leaves_only_whole_records(cluster: Cluster, journal: str, how: str) -> None:
    """A connection of the SDK ends without closing its file; or the process on a mount is gone and the mount goes on."""
    if how == "process":
        fd = os.open(cluster.mount(1) / journal, os.O_WRONLY | os.O_APPEND)
        for number in range(20):
            os.write(fd, record(1, number))
        os.close(fd)
    else:
        with connect(cluster.url()) as fs:
            file = fs.open(f"/{journal}", "ab", buffering=0)
            for number in range(20):
                file.write(record(1, number))
            file.close()
    with (cluster.mount(2) / journal).open("ab", buffering=0) as other:
        other.write(record(2, 0))
    none_lost_or_doubled((cluster.mount(3) / journal).read_bytes(), {1: 20, 2: 1})


def test_of_two_mounts_that_append_without_a_pause_none_waits_for_long_and_a_cut_gets_through(cluster: Cluster) -> None:
    (cluster.mount(1) / "busy").write_bytes(bytes(20_000))
    until = time.monotonic() + 3
    longest, counts = [0.0] * 3, [0] * 3

    def act(number: int) -> None:
        fd = os.open(cluster.mount(number + 1) / "busy", os.O_WRONLY | (os.O_APPEND if number < 2 else 0))
        while (began := time.monotonic()) < until:
            if number < 2:
                os.write(fd, b"x" * 100)
            else:
                os.ftruncate(fd, 20_000)
                time.sleep(0.05)
            longest[number] = max(longest[number], time.monotonic() - began)
            counts[number] += 1
        os.close(fd)

    threads = [threading.Thread(target=act, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(longest) < 1.5, f"somebody waited: {longest} s; {counts} times"
    assert min(counts[:2]) > max(counts[:2]) / 20, counts
    assert counts[2] >= 3, counts


def test_who_has_appended_sees_at_the_next_stat_what_another_mount_changed_meanwhile(cluster: Cluster) -> None:
    """The new size is the kernel's own already, so that only the mount can tell it to drop its pages."""
    path, other = cluster.mount(1) / "both", cluster.mount(2) / "both"
    path.write_bytes(b"a" * 40_000)
    fd, elsewhere = os.open(path, os.O_RDWR | os.O_APPEND), os.open(other, os.O_RDWR)
    try:
        for round_ in range(8):
            assert len(set(os.pread(fd, 40_000, 0))) == 1, "cached from here on"
            new = b"%d" % round_ * 40_000
            os.pwrite(elsewhere, new, 0)
            os.fsync(elsewhere)
            os.write(fd, b"+" * 100)
            assert os.fstat(fd).st_size == 40_000 + 100 * (round_ + 1)
            assert os.pread(fd, 40_000, 0) == new, f"round {round_}"
    finally:
        os.close(fd)
        os.close(elsewhere)
