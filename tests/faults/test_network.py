"""Links between nodes that are cut, one way or both, that garble, reset, crawl, or lose the answer (a proxy per link).

Three masters; each reaches each other one, and clients reach each of them, through a proxy of their own.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mooseng_py.demo.harness import wait_until
from mooseng_py.errors import MooseError, UnavailableError
from mooseng_py.native import method
from mooseng_py.proto import name_pb2
from mooseng_py.sdk import FileSystem, connect
from tests.faults.frames import FAILURE, Raw
from tests.faults.masters import NAMES, Masters
from tests.faults.proxy import Proxy, flipping

TIMEOUTS = {"session_timeout_ms": 20_000}


class Net:
    """`links[a, b]`: the way from master a to master b; `doors[a]`: the way of clients to a."""

    def __init__(self, masters: Masters) -> None:
        self.masters = masters
        base = 9475 + masters.offset  # in the block of ports that was found free for the masters
        ports = iter(range(base, base + 9))
        self.links: dict[tuple[int, int], Proxy] = {}
        for a in NAMES:
            for b in NAMES:
                if a != b:
                    port = next(ports)
                    self.links[a, b] = Proxy(port, masters.port(b))
                    masters.seen_by[a, b] = port
        self.doors = {a: Proxy(port, masters.port(a)) for a, port in zip(NAMES, ports, strict=False)}
        self.door_ports = {a: base + 6 + i for i, a in enumerate(NAMES)}

    def all(self) -> list[Proxy]:
        return [*self.links.values(), *self.doors.values()]

    def url(self) -> str:
        return f"mooseng://{','.join(f'127.0.0.1:{port}' for port in self.door_ports.values())}/"

    def isolate(self, index: int) -> None:
        """Nothing between this master and the others, in either direction."""
        for (a, b), link in self.links.items():
            if index in (a, b):
                link.black_hole()

    def heal(self) -> None:
        for proxy in self.all():
            proxy.heal()


@pytest.fixture(scope="module")
def whole_net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    with Masters(tmp_path_factory.mktemp("net"), TIMEOUTS) as masters:
        net = Net(masters)
        try:
            masters.start().voters()
            yield net
        finally:
            for proxy in net.all():
                proxy.close()


@pytest.fixture
def net(whole_net: Net) -> Iterator[Net]:
    yield whole_net
    whole_net.heal()
    whole_net.masters.voters()
    for index in NAMES:
        assert "panicked" not in whole_net.masters.log(index)


@contextlib.contextmanager
def names_made(fs: FileSystem, folder: str, pause_s: float = 0.002) -> Iterator[list[str]]:
    """Directories made one after the other meanwhile, each renamed once; nothing may fail and nothing be done twice."""
    fs.mkdir(folder)
    done: list[str] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                name = f"{folder}/{len(done)}"
                fs.mkdir(f"{name}.new")
                fs.rename(f"{name}.new", name, overwrite=False)
                fs.write_bytes(f"{name}/file", name.encode())
                fs.link(f"{name}/file", f"{name}/second")
                fs.remove(f"{name}/file")
                done.append(name)
                time.sleep(pause_s)
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield done
        reached = len(done)
        wait_until("work goes on", lambda: failed or len(done) > reached + 5, timeout_s=40)
    finally:
        stop.set()
        thread.join(60)
    assert not failed, failed
    assert sorted(fs.listdir(folder), key=int) == [str(index) for index in range(len(done))]
    for name in done:
        assert fs.listdir(name) == ["second"]
        assert fs.read_bytes(f"{name}/second") == name.encode()


def test_an_isolated_leader_answers_nothing_once_its_lease_is_over(net: Net) -> None:
    old = net.masters.leader()
    with net.masters.client() as fs:
        fs.write_bytes("/known", b"before")
    net.isolate(old)
    new = net.masters.leader(other_than=old)
    others = f"mooseng://{','.join(net.masters.address(i) for i in NAMES if i != old)}/"
    with connect(others) as fs:
        fs.write_bytes("/known", b"after")
        fs.mkdir("/only-after")
    with pytest.raises(UnavailableError), connect(net.masters.url(only=old), deadline_ms=1500) as fs:
        fs.read_bytes("/known")
    with Raw(net.masters.address(old)) as raw:
        # Without the session that it refuses: straight to its state.
        request = name_pb2.NameRequest(lookup=name_pb2.Lookup(parent=1, name=b"known"))
        answer = raw.ask(method("Name"), request)
        error = answer.error if answer.kind == FAILURE else name_pb2.NameReply.FromString(answer.message).error
        assert error.errno, "it answered a read without a lease"
    assert not net.masters.health(old).details.get("ready"), "it must not claim to be ready"
    net.heal()
    net.masters.voters()
    with net.masters.client() as fs:
        assert fs.read_bytes("/known") == b"after"
        assert not fs.exists("/by-the-old-one")
    assert net.masters.leader() in NAMES
    assert new != old


@pytest.mark.parametrize("inward", [True, False])
def test_a_one_way_cut_of_the_leader_stalls_for_seconds_at_most(net: Net, inward: bool) -> None:
    leader = net.masters.leader()
    with net.masters.client() as fs, names_made(fs, f"/one-way-{inward}") as done:
        wait_until("some names", lambda: len(done) > 5)
        for (a, b), link in net.links.items():
            if leader in (a, b):
                # Bytes go to the leader on the forward way of links to it, and on the backward way of its own.
                link.black_hole(forward=(b == leader) == inward, backward=(a == leader) == inward)
        reached = len(done)
        wait_until("names afterwards", lambda: len(done) > reached + 10, timeout_s=20)


def longer_than(items: list[str], count: int) -> bool:
    return len(items) > count


def test_a_follower_cut_off_and_back_does_not_disturb_the_leader(net: Net) -> None:
    leader = net.masters.leader()
    follower = next(index for index in NAMES if index != leader)
    with net.masters.client() as fs, names_made(fs, "/follower") as done:
        for _ in range(2):
            net.isolate(follower)
            time.sleep(2.5)
            net.heal()
            reached = len(done)
            wait_until("names afterwards", partial(longer_than, done, reached + 10))
    assert net.masters.leader() == leader, "a returning follower must not force an election"


def disturbed(net: Net, change: Callable[[Proxy], None], folder: str, seconds: float) -> None:
    """Work through doors and links that `change` disturbs again and again."""
    with connect(net.url()) as fs, names_made(fs, folder) as done:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for proxy in net.all():
                change(proxy)
            time.sleep(0.3)
        assert done
        net.heal()


def test_bits_flipped_on_the_way_are_caught_and_sent_again(net: Net) -> None:
    def flip(proxy: Proxy) -> None:
        proxy.forward, proxy.backward = flipping(0.01, seed=1), flipping(0.01, seed=2)

    disturbed(net, flip, "/flipped", 4)


def test_connections_reset_in_the_middle_of_frames_do_no_harm(net: Net) -> None:
    disturbed(net, lambda proxy: proxy.reset(), "/reset", 4)


def test_bytes_that_come_one_by_one_are_put_together(net: Net) -> None:
    for door in net.doors.values():
        door.piece_bytes = 1
    with connect(net.url()) as fs:
        fs.mkdir("/slowly")
        fs.write_bytes("/slowly/file", bytes(3000))
        assert fs.read_bytes("/slowly/file") == bytes(3000)


def test_delayed_links_slow_things_down_and_nothing_else(net: Net) -> None:
    terms = net.masters.view(net.masters.leader())["term"]
    for link in net.links.values():
        link.delay_s = 0.01
    with net.masters.client() as fs, names_made(fs, "/delayed") as done:
        wait_until("names", lambda: len(done) > 3, timeout_s=30)
    assert net.masters.view(net.masters.leader())["term"] == terms, "a slow network must not cause elections"


def losing_the_answer(door: Proxy, marker: bytes) -> Callable[[bytes], bytes]:
    """Once a request with `marker` went by, nothing comes back."""

    def watch(piece: bytes) -> bytes:
        if marker in piece:
            door.black_hole(forward=False, backward=True)
        return piece

    return watch


@pytest.mark.parametrize("operation", ["mkdir", "rename", "link", "unlink"])
def test_a_change_whose_answer_is_lost_with_its_leader_is_applied_once(net: Net, operation: str) -> None:
    leader = net.masters.leader()
    folder = f"/once-{operation}"
    with connect(net.url(), deadline_ms=40_000) as fs:
        fs.mkdir(folder)
        fs.write_bytes(f"{folder}/source", b"x")
        change: dict[str, Callable[[], None]] = {
            "mkdir": lambda: fs.mkdir(f"{folder}/made"),
            "rename": lambda: fs.rename(f"{folder}/source", f"{folder}/made", overwrite=False),
            "link": lambda: fs.link(f"{folder}/source", f"{folder}/made"),
            "unlink": lambda: fs.remove(f"{folder}/source"),
        }
        # The request arrives, is carried out, and its answer vanishes (what was asked on the way to it is answered).
        marker = b"source" if operation == "unlink" else b"made"
        for door in net.doors.values():
            door.forward = losing_the_answer(door, marker)
        failed: list[OSError] = []

        def attempt() -> None:
            try:
                change[operation]()
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        with net.masters.client() as other:
            done = {"unlink": lambda: not other.exists(f"{folder}/source")}
            wait_until("carried out", done.get(operation, lambda: other.exists(f"{folder}/made")))
        net.masters.kill(leader)
        net.heal()
        thread.join(45)
        net.masters.start(leader)
        assert not thread.is_alive()
        assert not failed, f"its own retry was taken for another one: {failed}"
        left = {"mkdir": ["made", "source"], "rename": ["made"], "link": ["made", "source"], "unlink": []}
        assert sorted(fs.listdir(folder)) == left[operation]


def test_a_client_that_was_silent_past_its_session_is_told_so(net: Net, tmp_path: Path) -> None:
    """What it does afterwards is refused or done anew in a new session, never half: nothing of the old one damages others."""
    net.masters.lead(1)
    only_the_leader = f"mooseng://127.0.0.1:{net.door_ports[1]}/"  # a follower would tell an address beside the doors
    with connect(only_the_leader, deadline_ms=2000) as fs, net.masters.client() as other:
        fs.write_bytes("/shared", b"first")
        for door in net.doors.values():
            door.black_hole()
        with pytest.raises(UnavailableError):
            fs.write_bytes("/shared", b"never")
        assert other.read_bytes("/shared") in (b"first", b"")
        other.write_bytes("/shared", b"second")
        net.heal()
        time.sleep(1)
        assert other.read_bytes("/shared") == b"second"
        with contextlib.suppress(MooseError):
            fs.read_bytes("/shared")
        wait_until("it works again", lambda: fs.read_bytes("/shared") == b"second")
