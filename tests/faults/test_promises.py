"""What a master promised before it was restarted, and what it made durable before it gave it a name."""

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import wait_until
from mooseng_py.native import method
from mooseng_py.proto import raft_pb2
from tests.faults.frames import FAILURE, REPLY, Raw, hello
from tests.faults.masters import NAMES, Masters
from tests.faults.tracing import all_traced, injected

VOTE, STATUS = method("RaftVote"), method("RaftStatus")
MASTER = 1
CALL = re.compile(r"(?P<tid>\d+) +(?P<call>\w+)\((?P<arguments>.*)")
RESUMED = re.compile(r"(?P<tid>\d+) +<\.\.\. (?P<call>\w+) resumed>.*= 0")


@pytest.fixture
def masters(tmp_path: Path) -> Iterator[Masters]:
    with Masters(tmp_path / "m", {"snapshot_every": 100, "segment_bytes": 1 << 20}) as running:
        running.start().voters()
        yield running


def test_a_restarted_master_gives_no_vote_while_a_lease_that_it_granted_may_run(masters: Masters) -> None:
    masters.kill()
    masters.start(2, wait=False)
    raw = wait_until("the port of the restarted master", lambda: connected(masters.address(2), masters.cluster_id))
    with raw:
        status = raft_pb2.RaftStatusReply.FromString(raw.ask(STATUS, raft_pb2.RaftStatusRequest()).message)
        request = raft_pb2.VoteRequest(
            vote=raft_pb2.Vote(term=status.term + 50, node_id=1),
            last_log=raft_pb2.LogId(term=status.term + 50, index=1 << 40),
            to=status.incarnation,
        )
        answer = raw.ask(VOTE, request)
        assert "gives no vote" in answer.error.message

        def granted() -> bool:
            answer = raw.ask(VOTE, request)
            return answer.kind != FAILURE and raft_pb2.VoteReply.FromString(answer.message).granted

        wait_until("the same request is granted once the lease is over", granted, timeout_s=20)


def connected(address: str, cluster_id: str) -> Raw:
    raw = Raw(address, greet=False)
    raw.send(hello(cluster_id=cluster_id, role=MASTER, node_id=1))
    assert raw.answer().kind == REPLY
    return raw


def test_a_file_of_the_log_or_a_snapshot_is_synced_before_it_gets_its_name(masters: Masters, tmp_path: Path) -> None:
    leader = masters.leader()
    trace = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-qq", "-p", str(masters.pid(leader)), "-o", str(trace), "-s", "0"]
    command += ["-e", "trace=write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2"]
    tracer = subprocess.Popen(command)
    try:
        wait_until("strace to be attached", lambda: all_traced(masters.pid(leader), tracer.pid))
        with masters.client() as fs:
            fs.mkdir("/d")
            before = time.monotonic()
            # Some MiB of log: several segments begin in recycled files, and snapshots are made.
            for index in range(700):
                fs.write_bytes(f"/d/{index}", bytes(7000))
                assert time.monotonic() - before < 120
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
    named = renames(trace.read_text(errors="replace").splitlines())
    # A purged segment, written past the page cache, becomes a spare file: what is in it does not matter any more.
    named = [(source, target, synced) for source, target, synced in named if not source.endswith(".log")]
    kinds = {Path(target).suffix for _, target, _ in named}
    calls = trace.read_text(errors="replace").count("\n")
    assert {".log", ".snapshot"} <= kinds, (
        f"{kinds} of {calls} calls; {leader} was traced, {masters.leader()} leads now"
    )
    assert not [(source, target) for source, target, synced in named if not synced]


def test_what_a_killed_master_left_unsynced_is_durable_before_it_answers_anyone(
    masters: Masters, tmp_path: Path
) -> None:
    leader = masters.leader()
    victim = next(index for index in NAMES if index != leader)
    raft = masters.data[victim] / "raft"
    # It dies between the two copies of the vote that it gives in the election that follows.
    with injected(masters.pid(victim), "pwrite64:signal=KILL:when=2", paths=[raft / "vote"]):
        masters.kill(leader)
        masters.ended(victim, timeout_s=30)
    vote = (raft / "vote").read_bytes()
    assert vote[:44] != vote[4096:4140], "it was to die with one copy written"
    masters.start(leader, wait=False)
    trace = tmp_path / "calls"
    calls = "trace=fsync,fdatasync,accept4"
    masters.start(victim, under=["strace", "-D", "-f", "-yy", "-qq", "-s", "0", "-o", str(trace), "-e", calls])
    lines = trace.read_text(errors="replace").splitlines()
    heard = next(at for at, line in enumerate(lines) if "accept4(" in line and masters.address(victim) in line)
    synced = {path for line in lines[:heard] if "sync(" in line for path in re.findall(r"<([^<>]*)>", line)}
    newest = max(map(str, (raft / "log").glob("*.log")))
    assert {str(raft), str(raft / "vote"), str(raft / "log"), str(raft / "snapshot"), newest} <= synced
    repaired = (raft / "vote").read_bytes()
    assert repaired[:4096] == repaired[4096:]


def renames(calls: list[str]) -> list[tuple[str, str, bool]]:
    """Of each rename in a trace: from, to, and whether what was written to the file before it had been synced."""
    unsynced: set[str] = set()
    syncing: dict[str, str] = {}
    found = []
    for line in calls:
        if resumed := RESUMED.match(line):
            unsynced.discard(syncing.pop(resumed["tid"], ""))
        elif call := CALL.match(line):
            paths = re.findall(r"<([^<>]*)>", call["arguments"])
            if call["call"] in ("write", "pwrite64", "writev", "pwritev"):
                unsynced.update(paths[:1])
            elif call["call"] in ("fsync", "fdatasync"):
                if "unfinished" in line:
                    syncing[call["tid"]] = paths[0]
                elif line.rstrip().endswith("= 0"):
                    unsynced.discard(paths[0])
            else:
                names = re.findall(r'"([^"]*)"', call["arguments"])
                if len(names) == 2:
                    found.append((names[0], names[1], names[0] not in unsynced))
    return found


def test_the_reader_of_traces_sees_a_rename_before_its_sync() -> None:
    write, sync = '7 pwrite64(3</m/a.tmp>, ""..., 9, 0) = 9', "7 fsync(3</m/a.tmp>) = 0"
    rename = '7 rename("/m/a.tmp", "/m/a.log") = 0'
    assert renames([write, sync, rename]) == [("/m/a.tmp", "/m/a.log", True)]
    assert renames([write, rename, sync]) == [("/m/a.tmp", "/m/a.log", False)]
    padded = [line.replace("7 ", "7     ", 1) for line in (write, sync, rename)]  # so that five digits have room
    assert renames(padded) == [("/m/a.tmp", "/m/a.log", True)]
    waits = ["7 fsync(3</m/a.tmp> <unfinished ...>", "8 write(4</m/b>, 1) = 1", "7 <... fsync resumed>) = 0"]
    assert renames([write, *waits, rename])[0][2]
    assert not renames([write, waits[0], rename])[0][2]
