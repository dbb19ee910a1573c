"""The steps of the demonstration. Each does something real, checks what must hold, and returns its figures."""

import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mooseng_py
from mooseng_py.demo.harness import (
    BLOCK_BYTES,
    Activity,
    Operated,
    flip_byte,
    read_past_cache,
    sha256,
    tree_hashes,
    wait_until,
)

BIG_BYTES = 256 << 20
MIB = 1 << 20


class StepFailed(RuntimeError):
    """A promise of the demonstration did not hold; the text is what was seen."""


def require(holds: bool, seen: str) -> None:
    if not holds:
        raise StepFailed(seen)


@dataclass
class Demonstration:
    """What the steps share: the cluster, and the hashes of what was put in."""

    cluster: Operated
    scratch: Path
    figures: list[tuple[str, str]] = field(default_factory=list)
    expected: dict[str, str] = field(default_factory=dict)

    def note(self, name: str, value: str) -> None:
        self.figures.append((name, value))

    @property
    def root(self) -> Path:
        return self.cluster.mount(1)


def start(demo: Demonstration) -> str:
    """Nine nodes up, leader elected."""
    seconds = demo.cluster.up()
    nodes = demo.cluster.nodes()
    require(len(nodes) == 9, f"{len(nodes)} nodes, not nine")
    require(all(node["state"] == "ready" for node in nodes), f"not all ready: {[n['state'] for n in nodes]}")
    leader = demo.cluster.wait_for_leader()
    demo.note("nine nodes ready", f"{seconds:.1f} s")
    return f"nine nodes ready in {seconds:.1f} s, {leader} leads"


def copy_in(demo: Demonstration) -> str:
    """A real tree and one big file in through mount 1, equal everywhere."""
    sources = {
        "project": Path(mooseng_py.__file__).parent,
        "stdlib": Path(sysconfig.get_path("stdlib")),
    }
    staging = demo.scratch / "in"
    for name, source in sources.items():
        ignore = shutil.ignore_patterns("__pycache__", "site-packages", "test", "_lib", "*.so", "*.a", "config-*")
        shutil.copytree(source, staging / name, ignore=ignore, symlinks=True)
    big = staging / "big.bin"
    with big.open("wb") as file:
        for _ in range(BIG_BYTES // MIB):
            file.write(os.urandom(MIB))
    expected = tree_hashes(staging)

    begin = time.monotonic()
    for name in sources:
        subprocess.run(["cp", "-r", str(staging / name), str(demo.root / name)], check=True)
    tree_s = time.monotonic() - begin
    begin = time.monotonic()
    subprocess.run(["dd", f"if={big}", f"of={demo.root / 'big.bin'}", "bs=1M", "conv=fsync", "status=none"], check=True)
    big_s = time.monotonic() - begin
    demo.expected = expected
    demo.note("tree copied in", f"{len(expected) - 1} files in {tree_s:.1f} s, {(len(expected) - 1) / tree_s:.0f}/s")
    demo.note("256 MiB written, fsync at the end", f"{BIG_BYTES / big_s / 1e6:.0f} MB/s")

    read_s = compare_mounts(demo, (2, 3))
    compare_sdk(demo)
    demo.note("tree and file read and hashed through a mount", f"{read_s / 2:.1f} s")
    return f"{len(expected)} files are equal through mounts 2 and 3 and the SDK"


def compare_mounts(demo: Demonstration, mounts: tuple[int, ...]) -> float:
    """Every file put in has its SHA-256 through each of `mounts`; return the seconds taken."""
    begin = time.monotonic()
    for index in mounts:
        seen = tree_hashes(demo.cluster.mount(index))
        wrong = [path for path, digest in demo.expected.items() if seen.get(path) != digest]
        require(not wrong, f"mount {index}: {len(wrong)} files differ, the first is {wrong[:1]}")
    return time.monotonic() - begin


def compare_sdk(demo: Demonstration) -> None:
    seen = demo.cluster.sdk_digests(demo.expected)
    wrong = [path for path, digest in demo.expected.items() if seen.get(path) != digest]
    require(not wrong, f"SDK: {len(wrong)} files differ, the first is {wrong[:1]}")


def spread(demo: Demonstration) -> str:
    """Where the chunks lie."""
    info = demo.cluster.info("/big.bin")
    chunks = [place["info"] for place in info["chunks"]]
    places = [replica["server_id"] for chunk in chunks for replica in chunk["replicas"]]
    require(len(chunks) == BIG_BYTES // (64 * MIB), f"{len(chunks)} chunks")
    require(all(len(chunk["replicas"]) == 3 for chunk in chunks), "a chunk has fewer than three copies")
    counts = {server["server_id"]: int(server["chunks"]) for server in demo.cluster.status()["servers"]}
    low, high = min(counts.values()), max(counts.values())
    require(low > 0 and high <= low * 1.2, f"uneven: {counts}")
    return f"copies of /big.bin on servers {sorted(set(places))}; chunks by server: {counts}"


def kill_leader(demo: Demonstration) -> str:
    """The leader dies (-9) during a write."""
    leader = demo.cluster.leader()
    term = int(demo.cluster.status()["term"])
    target = demo.root / "during-leader-loss"
    target.mkdir()
    blocks = [os.urandom(64 << 10) for _ in range(16)]

    def write_one(index: int) -> None:
        path = target / f"{index:05}"
        with path.open("wb") as file:
            file.write(blocks[index % 16])
            os.fsync(file.fileno())

    activity = Activity("writing while the leader dies", write_one)
    with activity.going_on():
        wait_until("some writes", lambda: activity.done > 20)
        demo.cluster.crash(leader)
        follower = demo.cluster.wait_for_election(after_term=term)
        reached = activity.done
        wait_until("writes under the new leader", lambda: activity.errors or activity.done > reached + 20)
    require(not activity.errors, f"the application saw {activity.errors}")
    check_blocks(demo, target, blocks, activity.done)
    demo.cluster.restart(leader)
    demo.note("longest stall when the leader died", f"{activity.longest_gap_s:.2f} s")
    return f"{leader} killed, {follower} leads; {activity.done} files, no errno, longest stall {activity.longest_gap_s:.2f} s"


def check_blocks(demo: Demonstration, folder: Path, blocks: list[bytes], count: int) -> None:
    other = demo.cluster.mount(2) / folder.relative_to(demo.root)
    for index in range(count):
        require(
            (other / f"{index:05}").read_bytes() == blocks[index % 16], f"{folder.name}/{index:05} differs on mount 2"
        )
    digests = {f"{folder.name}/{index:05}": sha256(other / f"{index:05}") for index in range(count)}
    demo.expected.update(digests)


def kill_chunkserver(demo: Demonstration) -> str:
    """A chunkserver dies (-9) during reads and writes."""
    victim = "chunkserver-2"
    target = demo.root / "during-chunkserver-loss"
    target.mkdir()
    blocks = [os.urandom(MIB) for _ in range(16)]
    big = demo.root / "big.bin"

    def write_one(index: int) -> None:
        with (target / f"{index:05}").open("wb") as file:
            file.write(blocks[index % 16])
            os.fsync(file.fileno())

    def read_one(index: int) -> None:
        with big.open("rb", buffering=0) as file:
            file.seek(index * 7919 * BLOCK_BYTES % BIG_BYTES)
            file.read(BLOCK_BYTES)

    writing, reading = Activity("writing", write_one), Activity("reading", read_one)
    with writing.going_on(), reading.going_on():
        wait_until("some work", lambda: writing.done > 10 and reading.done > 10)
        demo.cluster.kill(victim)
        reached = writing.done
        wait_until("work without it", lambda: writing.errors or reading.errors or writing.done > reached + 30)
    errors = writing.errors + reading.errors
    require(not errors, f"the application saw {errors}")
    check_blocks(demo, target, blocks, writing.done)
    short = int(demo.cluster.status()["under_replicated"])
    begin = time.monotonic()
    demo.cluster.restart(victim)
    demo.cluster.wait_until_whole(timeout_s=60)
    healed_s = time.monotonic() - begin
    stalls = f"write {writing.longest_gap_s:.2f} s, read {reading.longest_gap_s:.2f} s"
    demo.note("longest stall when a chunkserver died", stalls)
    demo.note("it is back, and all copies restored", f"{short} chunks in {healed_s:.1f} s")
    return (
        f"{victim} killed: {writing.done} writes, {reading.done} reads, no errno ({stalls}); {short} chunks whole again"
    )


def flip(demo: Demonstration) -> str:
    """A byte flips in a stored chunk."""
    block = demo.scratch / "in" / "big.bin"
    with block.open("rb") as file:
        file.seek(100 * MIB)
        content = file.read(BLOCK_BYTES)
    server = "chunkserver-1"
    found = demo.cluster.find_block(server, content)
    require(found is not None, f"{server} has no copy of the block at 100 MiB")
    assert found is not None
    flip_byte(found[0], found[1] + 1234)
    require(demo.cluster.find_block(server, content) is None, "the flip did not reach the disk")
    begin = time.monotonic()
    paths = [demo.cluster.mount(index) / "big.bin" for index in (1, 2, 3)]

    def repaired() -> bool:
        # Each open begins with another copy: read until one met the bad block, and hold each answer against what was written.
        for path in paths:
            require(read_past_cache(path, 100 * MIB, BLOCK_BYTES) == content, f"{path} returned wrong bytes")
        return demo.cluster.find_block(server, content) is not None

    wait_until("the bad copy repaired", repaired, timeout_s=180)
    demo.cluster.wait_until_whole()
    seconds = time.monotonic() - begin
    for path in paths:
        require(sha256(path) == demo.expected["big.bin"], f"{path} is not as it was written")
    demo.note("flipped byte found and repaired", f"{seconds:.1f} s")
    return f"every read was right; {server}'s copy repaired after {seconds:.1f} s"


def kill_all(demo: Demonstration) -> str:
    """All nine die (-9) and start again."""
    demo.cluster.kill_everything()
    seconds = demo.cluster.up()
    compare_mounts(demo, (1, 3))
    demo.note("all nine killed, ready again", f"{seconds:.1f} s")
    return f"ready again in {seconds:.1f} s; all {len(demo.expected)} files are as they were"


STEPS: list[tuple[str, Callable[[Demonstration], str]]] = [
    ("start nine nodes", start),
    ("copy real files in, read them everywhere", copy_in),
    ("where the chunks lie", spread),
    ("kill the leader during a write", kill_leader),
    ("kill a chunkserver during reads and writes", kill_chunkserver),
    ("flip a byte in a stored chunk", flip),
    ("kill all nine and start them again", kill_all),
]
