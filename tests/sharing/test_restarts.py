"""Chunkservers that are restarted, killed or paused under an open file: its writer sees no errno and no stall beyond the contract.

What a client wrote and what is not yet stable anywhere it keeps, and sends again (DESIGN section 3, "Durability", "Availability").
"""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event

import pytest

from mooseng_py.demo.harness import Activity, Cluster, wait_until
from tests.allocation import punch_hole
from tests.sharing.support import (
    BLOCK,
    KIB,
    MIB,
    SERVERS,
    Held,
    kill_all,
    paused,
    pid_of,
    places,
    restart_all,
    same,
    unequal_copies,
    wait_until_copies_are_equal,
)

LONGEST_STALL_S = 1.2


@pytest.mark.parametrize("how_many", [pytest.param(2, marks=pytest.mark.soak), 3])
def test_a_file_stays_writable_through_the_same_descriptor_after_its_servers_were_restarted(
    cluster: Cluster, how_many: int
) -> None:
    """Written, fsynced and left alone; the servers are restarted in good order one after the other, as an upgrade does it."""
    before, after = b"b" * 200_000, b"a" * 30_000
    names = {kind: f"restarted-{how_many}-{kind}" for kind in ("sdk", "mounts")}
    right = before[:50_000] + after + before[80_000:]
    with ExitStack() as stack:
        clients = {kind: stack.enter_context(places(cluster, kind, 2)) for kind in names}
        held: dict[str, Held] = {}
        for kind, name in names.items():
            held[kind] = clients[kind][0].open(name, create=True)
            held[kind].put(0, before)
            held[kind].fsync()
        cluster.wait_until_whole()
        restart_all(cluster, SERVERS[:how_many])

        def write_on(kind: str) -> str:
            try:
                held[kind].put(50_000, after)
                held[kind].fsync()
                held[kind].close()
            except OSError as error:
                return f"{kind}: {error!r}"
            return ""

        with ThreadPoolExecutor(2) as pool:
            errors = [error for error in pool.map(write_on, names) if error]
        assert not errors, f"{errors}, right is no error"
        for kind, name in names.items():
            same(clients[kind][1].read(name), right, f"{kind}, another client")
            wrong = unequal_copies(cluster, name, len(right))
            assert not wrong, f"{kind}, at once: {wrong}"


def test_unsynced_bytes_are_there_after_every_chunkserver_was_killed_at_once(cluster: Cluster) -> None:
    """The client still knows them: fsync sends them again, and says OK when they are stable. Few bytes, and many."""
    with ExitStack() as stack:
        clients = {kind: stack.enter_context(places(cluster, kind, 2)) for kind in ("sdk", "mounts")}
        files: list[tuple[str, str, Held, bytes]] = []
        for kind, (one, _) in clients.items():
            for size in (30_000, 3 * MIB):
                data, name = os.urandom(size), f"killed-{size}-{kind}"
                held = one.open(name, create=True)
                held.put(0, bytes(100_000))
                held.fsync()
                held.put(50_000, data)
                files.append((kind, name, held, bytes(50_000) + data + bytes(max(0, 50_000 - size))))
                if size > MIB:
                    block = data[BLOCK - 50_000 % BLOCK :][:BLOCK]
                    wait_until("its bytes on a server", partial(cluster.find_block, SERVERS[0], block))
        kill_all(cluster, SERVERS)
        restart_all(cluster, SERVERS)

        def sync(file: tuple[str, str, Held, bytes]) -> str:
            try:
                file[2].fsync()
            except OSError as error:
                return f"{file[1]}: {error!r}"
            return ""

        with ThreadPoolExecutor(len(files)) as pool:
            errors = [error for error in pool.map(sync, files) if error]
        assert not errors, f"{errors}, right is no error"
        for kind, name, held, right in files:
            same(clients[kind][1].read(name), right, f"{name}, another client")
            held.close()
        restart_all(cluster, SERVERS[:1])
        for kind, name, _, right in files:
            for client in clients[kind]:
                same(client.read(name), right, f"{name}, later")


@pytest.mark.parametrize("rounds", [1, pytest.param(5, marks=pytest.mark.soak)])
def test_writers_go_on_while_every_chunkserver_is_killed_and_started_again(cluster: Cluster, rounds: int) -> None:
    """Pieces under way at any point of their life; fsync now and then."""
    folder = cluster.mount(1) / f"under-way-{rounds}"
    folder.mkdir()
    kept = bytearray()
    with (folder / "file").open("wb", buffering=0) as file:

        def step(index: int) -> None:
            data = index.to_bytes(4, "big") * 16 * KIB
            file.write(data)
            kept.extend(data)
            if index % 5 == 4:
                os.fsync(file.fileno())
            time.sleep(0.01)  # a pace, so that the file stays small

        activity = Activity("writing", step)
        with activity.going_on():
            for _ in range(rounds):
                reached = activity.done
                wait_until("some writes", lambda reached=reached: activity.errors or activity.done > reached + 20)  # type: ignore[misc]
                kill_all(cluster, SERVERS)
                restart_all(cluster, SERVERS)
        assert not activity.errors
        os.fsync(file.fileno())
    same((cluster.mount(2) / f"under-way-{rounds}/file").read_bytes(), bytes(kept), "another mount")


@pytest.mark.parametrize("server", [SERVERS[0], *(pytest.param(name, marks=pytest.mark.soak) for name in SERVERS[1:])])
def test_a_paused_chunkserver_stalls_no_writer_for_more_than_about_a_second(cluster: Cluster, server: str) -> None:
    """Small and large pieces, each fsynced; it is out of the set after a second at most, and in again when it goes on."""
    folder = cluster.mount(1) / f"paused-{server}"
    folder.mkdir()
    with ExitStack() as stack:
        activities = [writing(stack, folder / str(size), size) for size in (2 * KIB, 64 * KIB, 2 * MIB)]
        check_pause(cluster, server, activities)


def check_pause(cluster: Cluster, server: str, activities: list[Activity]) -> None:
    with ExitStack() as stack:
        for activity in activities:
            stack.enter_context(activity.going_on())
        wait_until("some writes", lambda: all(a.errors or a.done > 5 for a in activities))
        with paused(pid_of(cluster, server)):
            reached = [a.done for a in activities]
            wait_until(
                "writes meanwhile",
                lambda: all(a.errors or a.done > r + 20 for a, r in zip(activities, reached, strict=True)),
            )
    wait_until("it is up again", lambda: cluster.servers_up() == 3)
    cluster.wait_until_whole()
    for activity in activities:
        assert not activity.errors
        assert activity.longest_gap_s < LONGEST_STALL_S, (
            f"{activity.what}: {activity.longest_gap_s:.2f} s without a write"
        )


def writing(stack: ExitStack, path: Path, size: int) -> Activity:
    """Write a piece of a file of chunks and fsync it, again and again."""
    path.write_bytes(bytes(4 * MIB))
    fd = stack.enter_context(path.open("r+b", buffering=0)).fileno()

    def step(index: int) -> None:
        os.pwrite(fd, bytes([index % 251]) * size, index % 2 * size)
        os.fsync(fd)

    return Activity(f"writing {size} bytes", step)


def test_holes_promises_and_copies_go_on_while_a_chunkserver_dies_and_comes_back(cluster: Cluster) -> None:
    data = os.urandom(4 * MIB)
    folder = cluster.mount(1)
    (folder / "source").write_bytes(data)
    over = Event()

    def work() -> int:
        rounds = 0
        while not over.is_set() or rounds < 2:
            name = folder / f"target-{rounds % 3}"
            with (folder / "source").open("rb") as source, name.open("w+b", buffering=0) as target:
                done = 0
                while done < len(data):
                    done += os.copy_file_range(source.fileno(), target.fileno(), len(data) - done)
                punch_hole(target.fileno(), MIB + 5, 2 * MIB)
                os.posix_fallocate(target.fileno(), 0, 5 * MIB)
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        kill_all(cluster, SERVERS[:1])
        time.sleep(1)
        restart_all(cluster, SERVERS[:1])
        over.set()
        rounds = working.result(120)
    right = data[: MIB + 5] + bytes(2 * MIB) + data[3 * MIB + 5 :] + bytes(MIB)
    for number in range(min(rounds, 3)):
        name = f"target-{number}"
        same((cluster.mount(2) / name).read_bytes(), right, name)
        wait_until_copies_are_equal(cluster, name, len(right), timeout_s=30)
