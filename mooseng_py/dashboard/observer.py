"""The one thread that looks at the cluster, at its own pace: however many pages are open, masters are asked the same."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Generic, TypeVar

from mooseng_py.observe.logs import Log
from mooseng_py.proto import cluster_pb2

from .events import Event, Facts, differences, join
from .rates import Counters, Rates
from .seen import Seen, Snapshot, facts
from .sources import LOOK_TIMEOUT_S, NodeLook, look_at_master, look_at_node

_MOST_EVENTS = 300
# A little more than one look may take. What it cannot bound itself, as looking up a name, is not waited for any longer.
_PATIENCE_S = LOOK_TIMEOUT_S + 0.5

ValueT = TypeVar("ValueT")


class _Question(Generic[ValueT]):
    """One look under way, in a thread that nobody has to wait for: not the others, and not the end of the process."""

    def __init__(self, look: Callable[[], ValueT]) -> None:
        self.done = threading.Event()
        self._answer: tuple[ValueT, float] | None = None
        self._error = ""
        threading.Thread(target=self._run, args=(look,), name="look", daemon=True).start()

    def _run(self, look: Callable[[], ValueT]) -> None:
        try:
            self._answer = look(), time.monotonic()
        except (OSError, ValueError) as error:
            self._error = getattr(error, "strerror", None) or str(error)
        except Exception as error:  # noqa: BLE001  # an answer that cannot be understood is no answer
            self._error = f"{type(error).__name__}: {error}"
        finally:
            self.done.set()

    def seen(self, before: Seen[ValueT]) -> Seen[ValueT]:
        """What is known now."""
        if not self.done.is_set():
            return before.failed("has not answered yet", time.monotonic())
        return before.good(*self._answer) if self._answer else before.failed(self._error, time.monotonic())


class Observer:
    """Looks until `stop`. `snapshot` is always whole: it is replaced, never changed."""

    def __init__(
        self,
        masters: list[str],
        nodes: Mapping[str, str],
        interval_s: float,
        log: Log,
        *,
        look_at_master: Callable[[str, bool], cluster_pb2.ClusterView] = look_at_master,
        look_at_node: Callable[[str, NodeLook | None], NodeLook] = look_at_node,
    ) -> None:
        """`nodes`: name to HTTP address. The two functions are the only ways to a source; they raise OSError or ValueError."""
        self.snapshot = Snapshot(
            began_ms=_now_ms(),
            masters={address: Seen() for address in masters},
            nodes={name: Seen() for name in nodes},
        )
        self._addresses = dict(nodes)
        self._interval_s = interval_s
        self._log = log
        self._look_at_master, self._look_at_node = look_at_master, look_at_node
        self._asking_masters: dict[str, _Question[cluster_pb2.ClusterView]] = {}
        self._asking_nodes: dict[str, _Question[NodeLook]] = {}
        self._rates = Rates()
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)
        self._facts: Facts | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No source is asked afterwards."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self.look()
            except Exception as error:  # noqa: BLE001  # one look that fails must not be the last
                self._log.error("a look at the cluster failed", reason=f"{type(error).__name__}: {error}")
            self._stopping.wait(max(0.05, began + self._interval_s - time.monotonic()))

    def look(self) -> None:
        """Ask every source once, all at the same time, and replace the snapshot."""
        before = self.snapshot
        for_sessions = _whom_for_sessions(before.masters)
        for at in before.masters:
            if at not in self._asking_masters:
                self._asking_masters[at] = _Question(partial(self._look_at_master, at, at in for_sessions))
        for name, seen in before.nodes.items():
            if name not in self._asking_nodes:
                known = seen.what if seen.answers else None
                self._asking_nodes[name] = _Question(partial(self._look_at_node, self._addresses[name], known))
        self._wait()
        masters, nodes = _taken(self._asking_masters, before.masters), _taken(self._asking_nodes, before.nodes)
        self._rates.add(_now_ms(), _counters(before.nodes, nodes))
        self.snapshot = replace(
            before,
            looks=before.looks + 1,
            masters=masters,
            nodes=nodes,
            led=_led(before.led, masters),
            sessions=_sessions(before.sessions, [masters[at] for at in for_sessions]),
            rates=dict(self._rates.nodes),
            history=tuple(self._rates.history),
        )
        self._tell()

    def _wait(self) -> None:
        """Until everybody has answered, for a moment at most."""
        deadline = time.monotonic() + _PATIENCE_S
        for asking in (self._asking_masters, self._asking_nodes):
            for question in asking.values():
                question.done.wait(max(0.0, deadline - time.monotonic()))

    def _tell(self) -> None:
        """Put what differs from the last look among the events."""
        now = facts(self.snapshot)
        if self._facts is not None:
            for event in differences(self._facts, now, _now_ms()):
                joined = join(self._events[0] if self._events else None, event)
                if joined is not None:
                    self._events[0] = joined
                else:
                    self._events.appendleft(event)
                self._log.info("seen", event=event.text)
            now = _remembering(self._facts, now)
        self._facts = now
        self.snapshot = replace(self.snapshot, events=tuple(self._events))


def _taken(asking: dict[str, _Question[ValueT]], before: Mapping[str, Seen[ValueT]]) -> dict[str, Seen[ValueT]]:
    """What the questions have brought; those that are done are taken out, the others go on."""
    found = {name: asking[name].seen(seen) for name, seen in before.items()}
    for name in before:
        if asking[name].done.is_set():
            del asking[name]
    return found


def _remembering(before: Facts, now: Facts) -> Facts:
    """`now`, with what was known before where this look showed nothing: the next look is compared with that."""
    return replace(
        now,
        leader=before.leader if now.leader is None else now.leader,
        term=max(before.term, now.term),
        servers={**before.servers, **now.servers},
        disks={**before.disks, **now.disks},
        processes={**before.processes, **now.processes},
        sessions=before.sessions if now.sessions is None else now.sessions,
        under_replicated=before.under_replicated if now.under_replicated is None else now.under_replicated,
        missing=before.missing if now.missing is None else now.missing,
        healing=before.healing if now.healing is None else now.healing,
        heals={**before.heals, **now.heals},
        bad_blocks={**before.bad_blocks, **now.bad_blocks},
    )


def _led(
    before: Seen[cluster_pb2.ClusterView], masters: Mapping[str, Seen[cluster_pb2.ClusterView]]
) -> Seen[cluster_pb2.ClusterView]:
    """The answer of the leading master; when none leads, the last there was."""
    leading = [seen for seen in masters.values() if seen.answers and seen.what is not None and seen.what.is_leader]
    if not leading:
        return before.failed("no leading master answers", time.monotonic())
    return max(leading, key=lambda seen: seen.what.term if seen.what else 0)


def _whom_for_sessions(masters: Mapping[str, Seen[cluster_pb2.ClusterView]]) -> list[str]:
    """All masters know the sessions and one list of them is enough: the leader's, who knows which are idle."""
    leading = [at for at, seen in masters.items() if seen.answers and seen.what is not None and seen.what.is_leader]
    return leading or list(masters)


def _sessions(
    before: Seen[Mapping[int, cluster_pb2.SessionView]], asked: list[Seen[cluster_pb2.ClusterView]]
) -> Seen[Mapping[int, cluster_pb2.SessionView]]:
    """The list of the newest term, of those who were asked for one."""
    answers = [seen for seen in asked if seen.answers and seen.what is not None]
    if not answers:
        return before.failed("no master has told of its sessions", time.monotonic())
    best = max(answers, key=lambda seen: (seen.what.term, seen.what.is_leader) if seen.what else (0, False))
    listed = best.what.session_list if best.what else ()
    return Seen({session.id: session for session in listed}, best.at_s)


def _counters(before: Mapping[str, Seen[NodeLook]], now: Mapping[str, Seen[NodeLook]]) -> dict[str, Counters]:
    return {
        name: Counters(seen.at_s, seen.what.started, seen.what.values)
        for name, seen in now.items()
        if seen.answers and seen.what is not None and seen.at_s != before[name].at_s
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
