"""From what was seen to what a page shows: plain values that print as JSON. Pure: the time comes in.

Every figure carries its age where it may be old, and a source that does not answer says so instead of going missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mooseng_py.proto import cluster_pb2

from .seen import Seen, Snapshot, master_name, server_name
from .sources import NodeLook
from .verdict import verdict

# Longest lists of one answer; the counts beside them are whole.
MOST_TROUBLED = 200
MOST_SESSIONS = 500

Plain = dict[str, Any]


def overview(snapshot: Snapshot, now_s: float) -> Plain:
    """The cluster in one object."""
    newest = snapshot.newest()
    masters = _masters(snapshot, now_s)
    servers = _servers(snapshot, now_s)
    clients = _clients(snapshot, now_s)
    chunks = _chunks(snapshot, now_s)
    leader = _leader(newest, masters)
    return {
        "cluster_id": newest.what.cluster_id if newest.what else "",
        "since_ms": snapshot.began_ms,
        "heard_ms_ago": None if snapshot.heard_s is None else max(0, int((now_s - snapshot.heard_s) * 1000)),
        "verdict": verdict(snapshot, leader, masters, servers, clients, chunks),
        "leader": leader,
        "masters": masters,
        "chunkservers": servers,
        "clients": clients,
        "chunks": chunks,
        "space": _space(servers, newest.what.copies if newest.what else 0),
        "rates": dict(snapshot.history[-1].rates) if snapshot.history else {},
    }


def _leader(newest: Seen[cluster_pb2.ClusterView], masters: list[Plain]) -> Plain | None:
    """Who leads, as the masters that answer say; None when they know nobody, or nobody answers."""
    view = newest.what
    if view is None or not newest.answers or not view.leader_id:
        return None
    name = master_name(view.leader_id)
    serving = any(master["name"] == name and master["leads"] for master in masters)
    # Followers go on naming a leader that has died until they elect another; it leads when itself says so.
    if not serving:
        return None
    agreeing = [master["name"] for master in masters if master["answers"] and master["believes"] == name]
    return {"name": name, "address": view.leader, "term": view.term, "agreeing": agreeing}


# ---- masters ---------------------------------------------------------------------------------------------------------
def _masters(snapshot: Snapshot, now_s: float) -> list[Plain]:
    view = snapshot.newest().what
    said = {master.address: master for master in view.masters} if view else {}
    rows = []
    # Masters that the others know and this dashboard was not told of are shown as well.
    for address in [*snapshot.masters, *(other for other in said if other not in snapshot.masters)]:
        seen: Seen[cluster_pb2.ClusterView] = snapshot.masters.get(
            address, Seen(error="not among this dashboard's masters")
        )
        rows.append(_master(snapshot, address, seen, said.get(address), now_s))
    return sorted(rows, key=lambda row: (row["id"] or 999, row["address"]))


def _master(
    snapshot: Snapshot,
    address: str,
    seen: Seen[cluster_pb2.ClusterView],
    said: cluster_pb2.MasterView | None,
    now_s: float,
) -> Plain:
    number = said.node_id if said else 0
    name = master_name(number) if number else address
    own, view = seen.answers, seen.what
    newest = snapshot.newest().what
    # Its log positions stand in its own answer, else in another's, from which also its role comes.
    mine = next((one for one in view.masters if one.address == address), None) if view else said
    leads = bool(own and view and view.is_leader)
    role = "leader" if leads else "silent" if not own else (mine.role if mine else "unknown")
    if role == "leader" and not leads:
        role = "taking over"
    return {
        "id": number,
        "name": name,
        "address": address,
        "answers": own,
        "leads": leads,
        "role": role,
        "term": view.term if view else 0,
        "believes": master_name(view.leader_id) if view and view.leader_id else "",
        "last_log": mine.last_log if mine else 0,
        "applied": mine.applied if mine else 0,
        "snapshot": mine.snapshot if mine else 0,
        "behind": max(0, max((one.last_log for one in newest.masters), default=0) - mine.applied)
        if newest and mine
        else 0,
        "elections": view.elections if view else 0,
        "error": seen.error,
        **_ages(seen, now_s),
        "process": _process(snapshot, _node_of(snapshot, "master", "node_id", number), now_s),
    }


# ---- chunkservers ----------------------------------------------------------------------------------------------------
def _servers(snapshot: Snapshot, now_s: float) -> list[Plain]:
    newest, led = snapshot.newest().what, snapshot.led.what
    known = {server.server_id: server for server in (newest.servers if newest else ())}
    told = {server.server_id: server for server in (led.servers if led else ())}
    rows = [_server(snapshot, number, known.get(number), told.get(number), now_s) for number in sorted({*known, *told})]
    named = {row["node"] for row in rows}
    for name in _names_of(snapshot, "chunkserver"):
        if name not in named:
            rows.append(_stranger(snapshot, name, now_s))
    return rows


def _server(
    snapshot: Snapshot,
    number: int,
    known: cluster_pb2.ServerView | None,
    told: cluster_pb2.ServerView | None,
    now_s: float,
) -> Plain:
    """`known`: as committed; `told`: by the leader, who alone knows disks and heartbeats."""
    view = known or told or cluster_pb2.ServerView()
    node = _node_of(snapshot, "chunkserver", "server_id", number)
    disks = [_disk(disk) for disk in (told.disks if told else ())]
    return {
        "id": number,
        "name": server_name(number),
        "node": node,
        "address": view.address,
        "state": "up" if view.up else "down",
        "silent_ms": told.last_seen_ms if told else None,
        "weight": view.weight,
        "chunks": view.chunks,
        "epoch": view.epoch,
        "version": told.version if told else "",
        "inventory_known": told.inventory_known if told else False,
        "disks": disks,
        "total_bytes": sum(disk["total_bytes"] for disk in disks),
        "free_bytes": sum(disk["free_bytes"] for disk in disks),
        "rates": dict(snapshot.rates.get(node, {})),
        "process": _process(snapshot, node, now_s),
    }


def _stranger(snapshot: Snapshot, name: str, now_s: float) -> Plain:
    """A chunkserver of the configuration that no master has told of."""
    empty = {"id": 0, "name": name, "node": name, "address": "", "state": "unknown", "silent_ms": None, "weight": 0}
    rest = {"chunks": 0, "epoch": 0, "version": "", "inventory_known": False, "disks": []}
    return {
        **empty,
        **rest,
        "total_bytes": 0,
        "free_bytes": 0,
        "rates": {},
        "process": _process(snapshot, name, now_s),
    }


def _disk(disk: cluster_pb2.DiskStatus) -> Plain:
    return {
        "path": disk.path,
        "total_bytes": disk.total_bytes,
        "free_bytes": disk.free_bytes,
        "chunks": disk.chunks,
        "state": disk.state,
        "ok": disk.condition == cluster_pb2.DISK_OK,
        "direct_io": disk.direct_io,
    }


def _space(servers: list[Plain], copies: int) -> Plain:
    total, free = (sum(server[key] for server in servers) for key in ("total_bytes", "free_bytes"))
    return {"total_bytes": total, "free_bytes": free, "copies": copies}


# ---- clients ---------------------------------------------------------------------------------------------------------
def _clients(snapshot: Snapshot, now_s: float) -> list[Plain]:
    """Mounts that are watched, then the other sessions that the masters know."""
    sessions = dict(snapshot.sessions.what or {})
    rows = []
    for name in _names_of(snapshot, "client"):
        seen = snapshot.nodes[name]
        look = seen.what
        number = int(look.said.get("session") or 0) if look else 0
        state = "silent" if not seen.answers else "ready" if look and look.ready else "not ready"
        rows.append(
            {
                "name": name,
                "kind": "mount",
                "state": state,
                "mount_point": str(look.said.get("mount_point", "")) if look else "",
                "reason": seen.error or (str(look.said.get("reason", "")) if look else ""),
                "open_files": int(look.values.get("mooseng_fuse_open_files", 0)) if look else 0,
                "dirty_bytes": int(look.values.get("mooseng_client_dirty_bytes", 0)) if look else 0,
                "rates": dict(snapshot.rates.get(name, {})),
                "process": _process(snapshot, name, now_s),
                **_session(sessions.pop(number, None)),
            }
        )
    watched = {row["name"] for row in rows}
    others = [session for session in sessions.values() if session.name not in watched]
    for session in others[:MOST_SESSIONS]:
        rows.append(
            {
                "name": session.name or f"session {session.id}",
                "kind": "session",
                "state": "connected",
                "mount_point": session.mount_point,
                "reason": "",
                "open_files": session.open_inodes,
                "dirty_bytes": 0,
                "rates": {},
                "process": None,
                **_session(session),
            }
        )
    return rows


def _session(session: cluster_pb2.SessionView | None) -> Plain:
    if session is None:
        return {"session": 0, "host": "", "idle_ms": None}
    return {"session": session.id, "host": session.host, "idle_ms": session.idle_ms}


# ---- chunks ----------------------------------------------------------------------------------------------------------
def _chunks(snapshot: Snapshot, now_s: float) -> Plain:
    """How the chunks are, as the last leader to answer told; its age says how far that can be trusted."""
    view = snapshot.led.what or cluster_pb2.ClusterView()
    newest = snapshot.newest().what
    total = newest.chunks if newest else view.chunks
    return {
        "known": snapshot.led.what is not None,
        "total": total,
        "whole": max(0, total - view.under_replicated),
        # The leader counts chunks without any copy among those with too few.
        "endangered": view.under_replicated - view.missing,
        "missing": view.missing,
        "healing": view.heals_running,
        "orphans": len(view.orphans),
        "copies": view.copies,
        "min_copies": view.min_copies,
        "inodes": newest.inodes if newest else 0,
        "sessions": newest.sessions if newest else 0,
        "memory_bytes": newest.memory_bytes if newest else 0,
        "file_bytes": _file_bytes(snapshot),
        "troubled": [_trouble(trouble, view.copies) for trouble in view.troubled[:MOST_TROUBLED]],
        "troubled_total": len(view.troubled),
        "error": snapshot.led.error,
        **_ages(snapshot.led, now_s),
    }


def _trouble(trouble: cluster_pb2.ChunkTrouble, copies: int) -> Plain:
    chunk = trouble.chunk
    return {
        "id": f"{chunk.id:016x}",
        "version": chunk.version,
        "inode": chunk.inode,
        "index": chunk.index,
        "state": "missing" if not trouble.live else "endangered" if len(trouble.live) < copies else "moving",
        "servers": [server_name(number) for number in chunk.servers],
        "live": [server_name(number) for number in trouble.live],
        "bad": [server_name(number) for number in trouble.bad],
        "healing_to": server_name(chunk.heal_target) if chunk.heal_id else "",
        "stored_bytes": chunk.stored_bytes,
    }


def _file_bytes(snapshot: Snapshot) -> int | None:
    """Sum of the lengths of all files, of the leader's metrics or else the newest of a master's; None: no metrics."""
    name = "mooseng_master_file_bytes"
    looks = [seen for seen in snapshot.nodes.values() if seen.what is not None and name in seen.what.values]
    if not looks:
        return None
    newest = max(looks, key=lambda seen: (bool(seen.what and seen.what.said.get("is_leader")), seen.at_s))
    return int(newest.what.values[name]) if newest.what else None


# ---- nodes over HTTP -------------------------------------------------------------------------------------------------
def _names_of(snapshot: Snapshot, role: str) -> list[str]:
    """Configured nodes of a role: as they say, or while they never answered as their name begins."""
    return [
        name
        for name, seen in snapshot.nodes.items()
        if (seen.what.role if seen.what is not None and seen.what.role else name.rpartition("-")[0]) == role
    ]


def _node_of(snapshot: Snapshot, role: str, key: str, number: int) -> str:
    """The configured node with this id; by its own words, else by its name. Empty: none."""
    for name, seen in snapshot.nodes.items():
        if seen.what is not None and seen.what.role == role and seen.what.said.get(key) == number:
            return name
    usual = f"{role}-{number}"
    return usual if usual in snapshot.nodes else ""


def _process(snapshot: Snapshot, name: str, now_s: float) -> Plain | None:
    """How the node's process does; None for a node whose HTTP address is not known here."""
    seen: Seen[NodeLook] | None = snapshot.nodes.get(name)
    if seen is None:
        return None
    look = seen.what
    values: Mapping[str, float] = look.values if look else {}
    return {
        "answers": seen.answers,
        "ready": bool(seen.answers and look and look.ready),
        "reason": seen.error or (str(look.said.get("reason", "")) if look else ""),
        "version": look.version if look else "",
        "started_ms": int(look.started * 1000) if look else None,
        "memory_bytes": int(values.get("process_resident_memory_bytes", 0)),
        "cpu": snapshot.rates.get(name, {}).get("cpu_seconds", 0.0),
        **_ages(seen, now_s),
    }


def _ages(seen: Seen[Any], now_s: float) -> Plain:
    failing = seen.failing_since_s
    return {
        "age_ms": seen.age_ms(now_s),
        "failing_ms": None if failing is None else max(0, int((now_s - failing) * 1000)),
    }


def rates(snapshot: Snapshot) -> Plain:
    """The last minutes, one list for each series with null where nobody gave it."""
    points = snapshot.history
    keys = sorted({key for point in points for key in point.rates})
    return {
        "at_ms": [point.at_ms for point in points],
        "nodes": [point.nodes for point in points],
        "series": {key: [_rounded(point.rates.get(key)) for point in points] for key in keys},
        "by_node": {name: dict(found) for name, found in snapshot.rates.items()},
    }


def events(snapshot: Snapshot) -> Plain:
    """Newest first."""
    return {
        "since_ms": snapshot.began_ms,
        "events": [
            {"at_ms": e.at_ms, "kind": e.kind, "severity": e.severity, "subject": e.subject, "text": e.text}
            for e in snapshot.events
        ],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
