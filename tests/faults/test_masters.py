"""Masters that lose their followers, their disk, the end of their log or a byte of it: they say so, and lose nothing."""

import errno
import os
import random
import re
import shutil
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mooseng_py.demo.harness import flip_byte, wait_until
from mooseng_py.errors import MooseError
from mooseng_py.sdk import FileSystem
from tests.faults.masters import NAMES, Masters
from tests.faults.tracing import injected

SMALL = {"snapshot_every": 100, "segment_bytes": 1 << 20}


@pytest.fixture
def masters(tmp_path: Path) -> Iterator[Masters]:
    with Masters(tmp_path / "m", SMALL) as running:
        running.start().voters()
        yield running


def populate(fs: FileSystem, name: str, count: int = 60) -> None:
    fs.mkdir(f"/{name}")
    for index in range(count):
        fs.write_bytes(f"/{name}/{index}", f"{name} {index}".encode())
        if index % 10 == 0:
            fs.mkdir(f"/{name}/d{index}")
            fs.rename(f"/{name}/{index}", f"/{name}/d{index}/moved")


def tree(fs: FileSystem) -> dict[str, object]:
    """Everything there is: identity, attributes and content of each file."""
    seen: dict[str, object] = {}
    for folder, _, files in fs.walk("/"):
        for name in files:
            path = f"{folder.rstrip('/')}/{name}"
            status = fs.stat(path)
            seen[path] = (status.st_ino, status.st_mode, status.st_mtime_ns, status.st_ctime_ns, fs.read_bytes(path))
        seen[folder] = fs.stat(folder).st_ino
    return seen


def same_everywhere(masters: Masters, expected: dict[str, object]) -> None:
    """Each master, made the leader, shows the same tree."""
    masters.voters()
    for index in NAMES:
        masters.lead(index)
        with masters.client() as fs:
            assert tree(fs) == expected, f"master {index} differs"


def raft(masters: Masters, index: int) -> Path:
    return masters.data[index] / "raft"


def segments(masters: Masters, index: int) -> list[Path]:
    return sorted((raft(masters, index) / "log").glob("*.log"))


def end_of(segment: Path) -> int:
    """Behind the last byte that is not zero: files are written in advance."""
    return len(segment.read_bytes().rstrip(b"\0"))


def test_a_leader_without_followers_waits_quietly_and_goes_on_when_they_come_back(masters: Masters) -> None:
    leader = masters.leader()
    others = [index for index in NAMES if index != leader]
    with masters.client() as fs:
        done: list[str] = []
        masters.kill(*others)

        def make() -> None:
            fs.mkdir("/waits")
            done.append("/waits")

        worker = threading.Thread(target=make)
        worker.start()
        time.sleep(1)
        lines, cpu = len(masters.log(leader).splitlines()), masters.cpu_seconds(leader)
        time.sleep(5)
        assert not done, "acknowledged without a majority"
        assert len(masters.log(leader).splitlines()) - lines < 50
        assert masters.cpu_seconds(leader) - cpu < 1.5, "it must not spin"
        masters.start(*others)
        worker.join(30)
        assert done
        assert fs.isdir("/waits")


def metric(masters: Masters, index: int, name: str) -> float:
    """A gauge without labels as its /metrics page shows it."""
    with urllib.request.urlopen(f"http://127.0.0.1:{9440 + index + masters.offset}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def check_alone(masters: Masters, index: int, why: str) -> None:
    """Whoever is asked hears that this master, left alone, does not lead, and why."""
    wait_until("it says so", lambda: not masters.health(index).good, timeout_s=10)
    said = masters.health(index)
    assert re.search(why, said.reason), said.reason
    assert said.details["is_leader"] is False
    assert not said.details["leader"]
    view = masters.view(index)
    assert not view["is_leader"]
    assert not view["leader"]
    assert re.search(why, view["no_leader"])
    assert "leader" not in [m["role"] for m in view["masters"]]
    for name in ("mooseng_master_is_leader", "mooseng_raft_leader", "mooseng_raft_leader_id", "mooseng_node_ready"):
        assert metric(masters, index, name) == 0, name


def test_a_leader_left_alone_says_that_it_leads_no_more_and_why_until_the_others_are_back(masters: Masters) -> None:
    leader = masters.leader()
    others = [index for index in NAMES if index != leader]
    with masters.client() as fs:
        populate(fs, "before")
    masters.kill(*others)
    check_alone(masters, leader, r"no majority of masters answers: 1 of 3")
    began = time.monotonic()
    acts: list[Callable[[FileSystem], object]] = [lambda fs: fs.mkdir("/refused"), lambda fs: fs.listdir("/before")]
    for act in acts:
        with (
            pytest.raises(MooseError, match="check that a majority of them runs") as refused,
            masters.client(deadline_ms=2000) as fs,
        ):
            act(fs)
        assert refused.value.errno == errno.EIO
    assert time.monotonic() - began < 20
    masters.start(others[0])
    began = time.monotonic()
    masters.leader()
    with masters.client() as fs:
        populate(fs, "after")
        assert fs.isdir("/before")
        assert not fs.exists("/refused")
    assert time.monotonic() - began < 10
    masters.start(others[1])
    with masters.client() as fs:
        expected = tree(fs)
    same_everywhere(masters, expected)


def test_a_follower_left_alone_names_no_leader(masters: Masters) -> None:
    leader = masters.leader()
    alone, other = (index for index in NAMES if index != leader)
    masters.kill(leader, other)
    check_alone(masters, alone, rf"master {leader} .* is silent")


def test_all_masters_stopped_at_once_end_in_seconds_with_few_words(masters: Masters) -> None:
    before = {index: len(masters.log(index).splitlines()) for index in NAMES}
    began = time.monotonic()
    assert set(masters.stop().values()) == {0}
    assert time.monotonic() - began < 10
    for index in NAMES:
        assert len(masters.log(index).splitlines()) - before[index] < 40


# The log is written past the page cache, each batch one synchronous write: no sync of its own can fail.
@pytest.mark.parametrize("rule", ["pwrite64:error=EIO:when=1", "pwrite64:error=ENOSPC:when=1"])
def test_a_leader_whose_log_fails_ends_with_a_sentence_and_is_good_again_after_a_restart(
    masters: Masters, rule: str
) -> None:
    leader = masters.leader()
    with masters.client() as fs:
        populate(fs, "before")
        with injected(masters.pid(leader), rule, paths=segments(masters, leader)[-1:]):
            populate(fs, "meanwhile")
            assert masters.ended(leader) == 1, "who supervises it must see that it failed"
            assert masters.leader()
        assert re.search(
            r"mooseng_py.master: writing the log in \S+ failed .* acknowledges nothing more", masters.log(leader)
        )
        populate(fs, "after")
        masters.start(leader)
        expected = tree(fs)
    same_everywhere(masters, expected)


def test_masters_whose_snapshots_fail_for_a_while_serve_on_say_so_and_write_later_ones(masters: Masters) -> None:
    def trouble(index: int) -> object:
        return masters.health(index).details["snapshot_trouble"]

    def written(folder: Path) -> list[Path]:
        return list(folder.glob("*.snapshot"))

    folders = [raft(masters, index) / "snapshot" for index in NAMES]
    with masters.client() as fs:
        for folder in folders:
            folder.rename(folder.with_name("away"))
        populate(fs, "meanwhile", 250)
        for index in NAMES:
            wait_until("it says so", partial(trouble, index))
            assert masters.health(index).good
            assert metric(masters, index, "mooseng_raft_snapshot_failing") == 1
        time.sleep(3)
        for index, folder in zip(NAMES, folders, strict=True):
            assert masters.log(index).count("no snapshot can be written") == 1, "told once"
            folder.with_name("away").rename(folder)
        populate(fs, "after", 10)
        for index, folder in zip(NAMES, folders, strict=True):
            wait_until("a later snapshot", partial(written, folder), timeout_s=20)
            wait_until("all is well", lambda: not any(map(trouble, NAMES)))
            assert metric(masters, index, "mooseng_raft_snapshot_failing") == 0
        expected = tree(fs)
    masters.kill()
    masters.start()
    same_everywhere(masters, expected)


def test_a_log_cut_anywhere_in_its_last_record_starts_again_with_the_same_state(
    masters: Masters, tmp_path: Path
) -> None:
    with masters.client() as fs:
        populate(fs, "kept")
        expected = tree(fs)
    victim = next(index for index in NAMES if index != masters.leader())
    masters.kill(victim)
    # What is on the disk now, kept to be torn anew each time.
    whole = shutil.copytree(masters.data[victim], tmp_path / "whole")
    last = segments(masters, victim)[-1]
    end = end_of(last)
    for cut in [*range(end - 1, end - 60, -7), end - 300, end - 4096, 4096, 1000, 0]:
        if not 0 <= cut < end:
            continue
        shutil.rmtree(masters.data[victim])
        shutil.copytree(whole, masters.data[victim])
        zeroed = bytearray(last.read_bytes())
        zeroed[cut:] = bytes(len(zeroed) - cut)
        last.write_bytes(zeroed)
        masters.start(victim)
        masters.kill(victim)
    masters.start(victim)
    same_everywhere(masters, expected)
    assert "panicked" not in masters.log(victim)


@pytest.mark.slow
def test_rot_anywhere_on_one_master_is_noticed_and_mended_from_the_others(masters: Masters) -> None:
    with masters.client() as fs:
        populate(fs, "kept", 150)
        expected = tree(fs)
    victim = next(index for index in NAMES if index != masters.leader())
    masters.kill(victim)
    dice = random.Random(7)
    for pattern in ("identity", "vote", "progress", "log/*.log", "snapshot/*.snapshot"):
        for where in (0.0, dice.random()):
            rotten = sorted(raft(masters, victim).glob(pattern))[0]
            flip_byte(rotten, int(where * end_of(rotten)))
            masters.start(victim)
            masters.voters()
            masters.kill(victim)
    masters.start(victim)
    same_everywhere(masters, expected)
    assert "panicked" not in masters.log(victim)


def test_the_same_record_rotten_on_all_masters_stops_them_with_a_sentence(masters: Masters) -> None:
    with masters.client() as fs:
        populate(fs, "kept", 20)
    masters.stop()
    for index in NAMES:
        first = segments(masters, index)[0]
        flip_byte(first, 4096 + 50)
    masters.start(wait=False)
    time.sleep(4)
    for index in NAMES:
        if masters.processes[index].poll() is None:
            assert not masters.health(index).good
        assert "damaged" in masters.log(index)
        assert list(masters.data[index].glob("raft.damaged-*")), "what was there must be kept"
    with pytest.raises(MooseError), masters.client(deadline_ms=2000) as fs:
        fs.listdir("/")


def load(fs: FileSystem, name: str, stop: threading.Event, done: list[str], errors: list[OSError]) -> None:
    """Names made, renamed and removed until told to stop; `done`: those that must be there."""
    try:
        fs.mkdir(f"/{name}")
        index = 0
        while not stop.is_set():
            path = f"/{name}/{index}"
            fs.mkdir(path + ".new")
            fs.rename(path + ".new", path)
            done.append(path)
            if index % 3 == 2:
                done.remove(f"/{name}/{index - 1}")
                fs.rmdir(f"/{name}/{index - 1}")
            index += 1
    except OSError as error:
        errors.append(error)


@pytest.mark.soak
def test_masters_killed_again_and_again_under_load_with_snapshots_lose_no_name(masters: Masters) -> None:
    dice = random.Random(11)
    stop, errors = threading.Event(), list[OSError]()
    made: list[list[str]] = [[], [], []]
    with masters.client() as fs:
        workers = [threading.Thread(target=load, args=(fs, f"w{i}", stop, made[i], errors)) for i in range(3)]
        for worker in workers:
            worker.start()
        try:
            for round_number in range(12):
                time.sleep(dice.uniform(0.05, 0.5))
                victims = [1, 2, 3] if round_number % 6 == 5 else [dice.choice(NAMES)]
                masters.kill(*victims)
                masters.start(*victims)
        finally:
            stop.set()
            for worker in workers:
                worker.join(60)
        assert not errors
        expected = tree(fs)
        for index in range(3):
            assert sorted(f"/w{index}/{name}" for name in fs.listdir(f"/w{index}")) == sorted(made[index])
    assert any(list((raft(masters, i) / "snapshot").glob("*.snapshot")) for i in NAMES)
    same_everywhere(masters, expected)


def test_a_master_that_was_away_for_long_catches_up_by_a_snapshot(masters: Masters) -> None:
    away = next(index for index in NAMES if index != masters.leader())
    masters.kill(away)
    with masters.client() as fs:
        for index in range(700):
            fs.mkdir(f"/{index}")
        populate(fs, "files")
        expected = tree(fs)
    masters.start(away)
    same_everywhere(masters, expected)


@pytest.mark.parametrize(
    "rule", ["write", "rename", "renameat2", "renameat", "fsync", "fdatasync", "pwrite64", "unlink", "ftruncate"]
)
@pytest.mark.soak
def test_a_master_killed_at_any_call_of_a_snapshot_recovers(masters: Masters, rule: str) -> None:
    with masters.client() as fs:
        count = 0
        for when in (1, 3):
            victim = next(index for index in NAMES if index != masters.leader())
            with injected(masters.pid(victim), f"{rule}:signal=KILL:when={when}"):
                for _ in range(230):
                    fs.mkdir(f"/{count}")
                    count += 1
            if masters.processes[victim].poll() is None:
                continue
            assert masters.ended(victim) == -signal.SIGKILL
            masters.start(victim)
        expected = tree(fs)
    same_everywhere(masters, expected)
    assert len(expected) == count + 1
    assert not any(list(raft(masters, index).rglob("*.tmp")) for index in NAMES)


def test_a_master_refuses_the_data_directory_of_another_and_leaves_it_alone(masters: Masters, tmp_path: Path) -> None:
    masters.stop()

    def fingerprint(path: Path) -> dict[str, bytes]:
        return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}

    before = fingerprint(masters.data[1])
    for description, changes in {
        "belongs to master 1, not to 2": {"data": {2: masters.data[1]}},
        'belongs to cluster "faults", not to "others"': {"data": {2: masters.data[1]}, "cluster_id": "others"},
    }.items():
        other = Masters(tmp_path / "other", SMALL, **changes)  # type: ignore[arg-type]
        with other:
            other.start(2, wait=False)
            assert other.ended(2) == 1
            assert description in other.log(2).splitlines()[-1]
        os.remove(other.base / "log-2")
    assert fingerprint(masters.data[1]) == before


def test_a_client_of_another_cluster_is_refused_in_a_sentence(masters: Masters) -> None:
    from mooseng_py.sdk import connect

    with (
        pytest.raises(MooseError, match=r"another cluster"),
        connect(masters.url(), cluster_id="others", deadline_ms=3000),
    ):
        pass


def test_an_older_copy_of_a_data_directory_is_set_aside_and_never_votes(masters: Masters, tmp_path: Path) -> None:
    with masters.client() as fs:
        populate(fs, "old")
    victim = next(index for index in NAMES if index != masters.leader())
    masters.kill(victim)
    older = shutil.copytree(masters.data[victim], tmp_path / "older")
    shutil.rmtree(masters.data[victim])
    masters.start(victim).voters()
    with masters.client() as fs:
        populate(fs, "new")
    masters.kill(victim)
    newer = shutil.copytree(masters.data[victim], tmp_path / "newer")
    shutil.rmtree(masters.data[victim])
    shutil.copytree(older, masters.data[victim])
    identity = (raft(masters, victim) / "identity").read_text()
    masters.start(victim)
    masters.voters()
    with masters.client() as fs:
        expected = tree(fs)
    same_everywhere(masters, expected)
    [aside] = masters.data[victim].glob("raft.outdated-*")
    assert (aside / "identity").read_text() == identity, "what was there must be kept"
    said = [line for line in masters.log(victim).splitlines() if "is an older copy" in line]
    assert said, masters.log(victim)
    assert (raft(masters, victim) / "identity").read_text() not in (identity, (newer / "raft/identity").read_text())
