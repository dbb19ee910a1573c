"""What happened, told from two looks that differ. Pure; nothing is told that no look showed.

A look that found less (a source did not answer) makes no event of what it did not see: unknown is None here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

Severity = Literal["good", "info", "warning", "bad"]
# Events of one kind this close together are told as one, with their counts added.
JOIN_MS = 60_000


@dataclass(frozen=True)
class Event:
    """One thing that was seen. `count` belongs to kinds that add up: copies made, bad blocks found."""

    at_ms: int
    kind: str
    severity: Severity
    subject: str
    text: str
    count: int = 0


@dataclass(frozen=True)
class Facts:
    """What one look showed, in comparable form. None, or an absent key: not known this time."""

    leader: str | None = None  # "" when the masters that answered know none
    term: int = 0
    masters: Mapping[str, bool] = field(default_factory=dict)  # answers us
    servers: Mapping[str, bool] = field(default_factory=dict)  # up, as committed
    disks: Mapping[str, tuple[bool, str]] = field(default_factory=dict)  # "chunkserver 1 /path" to ok, and in words
    clients: Mapping[str, bool] = field(default_factory=dict)  # ready
    processes: Mapping[str, float] = field(default_factory=dict)  # node name to start time
    sessions: Mapping[int, str] | None = None
    under_replicated: int | None = None
    missing: int | None = None
    healing: int | None = None
    heals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # node to result to count
    bad_blocks: Mapping[str, float] = field(default_factory=dict)


def differences(before: Facts, now: Facts, at_ms: int) -> list[Event]:
    """The events between two looks, in a stable order."""
    tellers: list[Callable[[Facts, Facts], Iterator[Event]]] = [
        _leadership, _masters, _processes, _servers, _disks, _clients, _sessions, _chunks, _counts,
    ]  # fmt: skip
    return [replace(event, at_ms=at_ms) for tell in tellers for event in tell(before, now)]


def join(last: Event | None, event: Event) -> Event | None:
    """Both as one event, when they are of a kind that adds up and close together; else None."""
    if last is None or not event.count or not last.count:
        return None
    same = (last.kind, last.subject) == (event.kind, event.subject)
    if not same or event.at_ms - last.at_ms > JOIN_MS:
        return None
    count = last.count + event.count
    return replace(event, count=count, text=_COUNTED[event.kind](count))


def _event(kind: str, severity: Severity, subject: str, text: str, count: int = 0) -> Event:
    return Event(0, kind, severity, subject, text, count)


def _leadership(before: Facts, now: Facts) -> Iterator[Event]:
    if before.leader is None or now.leader is None or before.leader == now.leader:
        if before.leader and before.leader == now.leader and before.term < now.term:
            yield _event("leader", "info", now.leader or "", f"{now.leader} was elected again, in term {now.term}")
        return
    if not now.leader:
        yield _event("leader", "bad", before.leader, f"{before.leader} leads no longer; no master leads")
    elif before.leader:
        yield _event("leader", "warning", now.leader, f"{now.leader} leads in term {now.term}, after {before.leader}")
    else:
        yield _event("leader", "good", now.leader, f"{now.leader} leads in term {now.term}")


def _changed(before: Mapping[str, bool], now: Mapping[str, bool]) -> Iterator[tuple[str, bool]]:
    for name, good in now.items():
        if name in before and before[name] != good:
            yield name, good


def _masters(before: Facts, now: Facts) -> Iterator[Event]:
    for name, good in _changed(before.masters, now.masters):
        text = f"{name} answers again" if good else f"{name} does not answer"
        yield _event("master", "good" if good else "bad", name, text)


def _servers(before: Facts, now: Facts) -> Iterator[Event]:
    for name, good in _changed(before.servers, now.servers):
        text = f"{name} is up again" if good else f"{name} is down: the leader does not hear it"
        yield _event("chunkserver", "good" if good else "bad", name, text)
    if before.servers:
        for name in now.servers.keys() - before.servers.keys():
            yield _event("chunkserver", "good", name, f"{name} is new")


def _disks(before: Facts, now: Facts) -> Iterator[Event]:
    for name, (good, state) in now.disks.items():
        if name in before.disks and before.disks[name] != (good, state):
            text = f"disk {name} is {state} (was {before.disks[name][1]})"
            yield _event("disk", "good" if good else "bad", name, text)


def _clients(before: Facts, now: Facts) -> Iterator[Event]:
    for name, good in _changed(before.clients, now.clients):
        text = f"{name} serves again" if good else f"{name} does not serve"
        yield _event("client", "good" if good else "warning", name, text)


def _processes(before: Facts, now: Facts) -> Iterator[Event]:
    for name, started in now.processes.items():
        if name in before.processes and before.processes[name] != started:
            yield _event("process", "info", name, f"{name} was started anew")


def _sessions(before: Facts, now: Facts) -> Iterator[Event]:
    if before.sessions is None or now.sessions is None:
        return
    for number in sorted(now.sessions.keys() - before.sessions.keys()):
        yield _event("session", "info", now.sessions[number], f"{now.sessions[number]} connected (session {number})")
    for number in sorted(before.sessions.keys() - now.sessions.keys()):
        name = before.sessions[number]
        yield _event("session", "info", name, f"{name} is gone (session {number})")


def _chunks(before: Facts, now: Facts) -> Iterator[Event]:
    if None in (before.missing, now.missing, before.under_replicated, now.under_replicated):
        return
    if now.missing and not before.missing:
        yield _event("chunks", "bad", "chunks", f"{_chunks_of(now.missing)} without any live copy")
    if now.under_replicated and not before.under_replicated:
        yield _event("chunks", "warning", "chunks", f"{_chunks_of(now.under_replicated)} with too few copies")
    if before.missing and not now.missing and now.under_replicated:
        yield _event("chunks", "good", "chunks", "every chunk has a live copy again")
    if (before.missing or before.under_replicated) and not now.missing and not now.under_replicated:
        yield _event("chunks", "good", "chunks", "every chunk has all its copies again")
    if now.healing and not before.healing:
        yield _event("healing", "info", "chunks", "making copies anew")


def _counts(before: Facts, now: Facts) -> Iterator[Event]:
    for name, results in now.heals.items():
        # Counters of another process, or of a node not heard of before, say nothing of what happened since.
        if name not in before.heals or before.processes.get(name) != now.processes.get(name):
            continue
        done = int(results.get("ok", 0) - before.heals[name].get("ok", 0))
        failed = int(sum(results.values()) - sum(before.heals[name].values())) - done
        if done > 0:
            yield _event("copies made", "good", "chunks", _COUNTED["copies made"](done), done)
        if failed > 0:
            yield _event("copies failed", "warning", "chunks", _COUNTED["copies failed"](failed), failed)
    for name, found in now.bad_blocks.items():
        if name in before.bad_blocks and before.processes.get(name) == now.processes.get(name):
            more = int(found - before.bad_blocks[name])
            if more > 0:
                yield _event("bad blocks", "bad", name, _COUNTED["bad blocks"](more), more)


def _chunks_of(count: int | None) -> str:
    return f"{count} chunk" if count == 1 else f"{count} chunks"


_COUNTED: dict[str, Callable[[int], str]] = {
    "copies made": lambda count: "one copy was made" if count == 1 else f"{count} copies were made",
    "copies failed": lambda count: (
        "one copy failed; it is tried again" if count == 1 else f"{count} copies failed; they are tried again"
    ),
    "bad blocks": lambda count: "one stored block was wrong" if count == 1 else f"{count} stored blocks were wrong",
}
