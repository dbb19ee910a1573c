"""The thread that looks: sources that hang, fail and talk nonsense, without a cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mooseng_py.dashboard.observer import Observer
from mooseng_py.dashboard.sources import NodeLook
from mooseng_py.demo.harness import wait_until
from mooseng_py.observe.logs import Log
from mooseng_py.proto import cluster_pb2

MASTERS = ["h:1", "h:2"]


class World:
    """What the sources answer; a test changes it while the observer looks."""

    def __init__(self) -> None:
        self.hang = threading.Event()
        self.hanging: set[str] = set()
        self.nonsense: set[str] = set()
        self.leader = 1
        self.term = 1
        self.asked: list[tuple[str, bool]] = []
        self.counter = 0.0

    def master(self, address: str, with_sessions: bool) -> cluster_pb2.ClusterView:
        self.asked.append((address, with_sessions))
        self._trouble(address)
        number = int(address[-1])
        view = cluster_pb2.ClusterView(
            term=self.term,
            leader_id=self.leader,
            leader=f"h:{self.leader}",
            is_leader=number == self.leader,
            masters=[cluster_pb2.MasterView(node_id=int(at[-1]), address=at) for at in MASTERS],
        )
        if with_sessions:
            view.session_list.add(id=4, name="client-1")
        return view

    def node(self, address: str, before: NodeLook | None) -> NodeLook:
        self._trouble(address)
        self.counter += 10
        return NodeLook({"mooseng_node_ready": 1.0, "mooseng_master_ops_total": self.counter}, role="master")

    def _trouble(self, address: str) -> None:
        if address in self.hanging:
            self.hang.wait(30)  # as a name that is looked up in vain
            raise OSError("at last")
        if address in self.nonsense:
            raise KeyError("nonsense")


@contextmanager
def observing(world: World) -> Iterator[Observer]:
    observer = Observer(
        MASTERS,
        {"master-1": "n:1"},
        0.05,
        Log("test", level="error"),
        look_at_master=world.master,
        look_at_node=world.node,
    )
    try:
        yield observer
    finally:
        world.hang.set()
        began = time.monotonic()
        observer.stop()
        assert time.monotonic() - began < 3


def until(what: str, check: Callable[[], object]) -> None:
    wait_until(what, lambda: bool(check()), timeout_s=10)


def test_a_source_that_hangs_is_called_silent_and_keeps_nobody_waiting() -> None:
    world = World()
    with observing(world) as observer:
        until("both answer", lambda: all(seen.answers for seen in observer.snapshot.masters.values()))
        world.hanging = {"h:2", "n:1"}
        until("the silent one", lambda: not observer.snapshot.masters["h:2"].answers)
        looks = observer.snapshot.looks
        until("further looks", lambda: observer.snapshot.looks >= looks + 2)
        seen = observer.snapshot.masters
        assert time.monotonic() - seen["h:1"].at_s < 5
        assert seen["h:2"].error == "has not answered yet"
        assert seen["h:2"].what is not None  # what it said last stays
        # It is asked once until it answers: questions do not pile up.
        before = len([at for at, _ in world.asked if at == "h:2"])
        until("further looks", lambda: observer.snapshot.looks >= looks + 4)
        assert len([at for at, _ in world.asked if at == "h:2"]) == before
        world.hanging = set()
        world.hang.set()
        until("it answers again", lambda: all(seen.answers for seen in observer.snapshot.masters.values()))


def test_an_answer_that_cannot_be_understood_is_no_answer() -> None:
    world = World()
    world.nonsense = {"h:1"}
    with observing(world) as observer:
        until("the other answers", lambda: observer.snapshot.masters["h:2"].answers)
        assert "nonsense" in observer.snapshot.masters["h:1"].error
        assert observer.snapshot.looks > 0


def test_sessions_are_asked_of_the_leader_alone_and_outlive_it() -> None:
    world = World()
    with observing(world) as observer:
        until("sessions", lambda: observer.snapshot.sessions.what)
        until("some looks", lambda: observer.snapshot.looks > 3)
        world.asked.clear()
        until("more looks", lambda: len(world.asked) > 6)
        assert {at for at, asked in world.asked if asked} == {"h:1"}
        world.nonsense = {"h:1"}
        world.leader, world.term = 2, 2
        until("the next leader", lambda: observer.snapshot.led.what and observer.snapshot.led.what.leader_id == 2)
        until("sessions again", lambda: observer.snapshot.sessions.answers)
        until("its event", lambda: observer.snapshot.events)
        texts = [event.text for event in observer.snapshot.events]
        assert "master-2 leads in term 2, after master-1" in texts
        assert not [text for text in texts if "session" in text]


def test_rates_and_events_grow_from_looks() -> None:
    world = World()
    with observing(world) as observer:
        until("rates", lambda: len(observer.snapshot.history) > 3)
        assert observer.snapshot.history[-1].rates["name_ops"] > 0
        assert observer.snapshot.events == ()
