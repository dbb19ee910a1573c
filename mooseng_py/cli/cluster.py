"""`mooseng status` and `mooseng info FILE`: what the masters know; and an operator's word on masters put back to an older state."""

from __future__ import annotations

from typing import Annotated

import typer

from mooseng_py.proto import cluster_pb2

from .connection import DirOption, JsonOption, MastersOption, TimeoutOption, where
from .errors import UsageError
from .output import as_dict, console, print_json, print_table, size
from .views import cluster_view, file_info, order

_ASK_TIMEOUT_S = 10.0
# Of masters that say none, as in crate wire.
_FIRST_LEVEL = 1

whole = typer.Typer(name="cluster", help="The cluster as a whole.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(whole)
    app.command()(status)
    app.command()(info)
    app.command("accept-history")(accept_history)
    app.command("drop-unknown")(drop_unknown)


def status(
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = _ASK_TIMEOUT_S,
    sessions: Annotated[bool, typer.Option("--sessions", help="Also every client session.")] = False,
    as_json: JsonOption = False,
) -> None:
    """The cluster as its leader sees it: masters, chunkservers, chunks in danger."""
    view = cluster_view(where(masters, directory), timeout, with_sessions=sessions)
    if as_json:
        print_json(as_dict(view))
    else:
        _print_view(view)


@whole.command()
def level(
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = _ASK_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """The cluster level, which says what the masters may commit, and which masters could do more.

    It rises by itself once every master runs software that can do more, and never falls: older masters stop then.
    """
    view = cluster_view(where(masters, directory), timeout, with_sessions=False)
    agreed = max(view.level, _FIRST_LEVEL)
    able = {m.node_id: None if m.role == "unreachable" else max(m.level, _FIRST_LEVEL) for m in view.masters}
    if as_json:
        print_json({"level": agreed, "masters": able})
        return
    console.print(f"cluster {view.cluster_id} is at level {agreed}", soft_wrap=True)
    print_table(
        ["MASTER", "ADDRESS", "CAN DO"],
        [[str(m.node_id), m.address, str(able[m.node_id] or "does not answer")] for m in view.masters],
        right=frozenset({"CAN DO"}),
    )


def info(
    path: str,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = _ASK_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Where a file lies: its chunks, their versions and copies, and the servers that hold them."""
    found = file_info(where(masters, directory), path, timeout)
    if as_json:
        print_json({"path": path, **as_dict(found)})
        return
    place = (
        "inside the inode" if found.is_inline else f"{len(found.chunks)} chunk{'' if len(found.chunks) == 1 else 's'}"
    )
    console.print(f"{path}: inode {found.attr.inode}, {found.attr.size} bytes, {place}", soft_wrap=True)
    if found.chunks:
        print_table(
            ["INDEX", "CHUNK", "VERSION", "COPIES", "LIVE", "STORED", "WHERE"],
            [_chunk_row(place) for place in found.chunks],
            right=frozenset({"INDEX", "VERSION", "COPIES", "LIVE", "STORED"}),
        )


def accept_history(
    server: Annotated[int | None, typer.Option("--server", help="The refused chunkserver.", min=1)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every chunkserver that was refused.")] = False,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = _ASK_TIMEOUT_S,
) -> None:
    """Go on with masters that were put back to an older state, or made anew: what they do not know is given up.

    Nothing is deleted: copies that the masters do not know are kept until `drop-unknown`.
    """
    if (server is not None) == every:
        raise UsageError("name one refused chunkserver with --server N, or all of them with --all")
    accept = cluster_pb2.AcceptHistory(server_id=server or 0)
    order(where(masters, directory), cluster_pb2.AdminCommand(accept_history=accept), timeout)
    console.print(
        "Accepted; the chunkservers register within seconds. Copies that the masters do not know are kept: "
        "`mooseng status` counts them, `mooseng drop-unknown` lets them go.",
        soft_wrap=True,
    )


def drop_unknown(
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = _ASK_TIMEOUT_S,
) -> None:
    """Let go of the copies that were kept since `accept-history`: they are deleted as any other that no file has."""
    command = cluster_pb2.AdminCommand(drop_unknown=cluster_pb2.DropUnknown())
    order(where(masters, directory), command, timeout)
    console.print("The copies that no file has are deleted once they are older than orphan_delay_s.", soft_wrap=True)


def _chunk_row(place: cluster_pb2.ChunkPlace) -> list[str]:
    chunk = place.info
    servers = " ".join(f"{replica.server_id}@{replica.address}" for replica in chunk.replicas)
    notes = (" healing" if chunk.healing else "") + ("" if chunk.written else " not written")
    return [
        str(chunk.index),
        f"{chunk.chunk.id:016x}",
        str(chunk.chunk.version),
        str(len(chunk.replicas)),
        str(place.copies_live),
        size(chunk.stored_bytes),
        servers + notes,
    ]


def _print_view(view: cluster_pb2.ClusterView) -> None:
    leader = f"master {view.leader_id} at {view.leader} leads in term {view.term}" if view.leader else "no master leads"
    reason = f": {view.no_leader}" if view.no_leader else ""
    console.print(f"cluster {view.cluster_id}: {leader}{reason}", soft_wrap=True)
    danger = (
        f"{view.under_replicated} with too few copies, {view.missing} without any, {view.heals_running} being copied"
    )
    console.print(
        f"{view.inodes} inodes, {view.chunks} chunks ({danger}), {view.sessions} sessions, {size(view.memory_bytes)} of name space in memory"
    )
    for refused in view.refused:
        console.print(f"chunkserver {refused.server_id} is refused: {refused.reason}", soft_wrap=True)
    if view.kept_orphans:
        console.print(
            f"{view.kept_orphans} copies that these masters do not know are kept; `mooseng drop-unknown` lets them go",
            soft_wrap=True,
        )
    print_table(
        ["MASTER", "ADDRESS", "ROLE", "LOG", "APPLIED", "SNAPSHOT"],
        [[str(m.node_id), m.address, m.role, str(m.last_log), str(m.applied), str(m.snapshot)] for m in view.masters],
        right=frozenset({"LOG", "APPLIED", "SNAPSHOT"}),
    )
    print_table(
        ["SERVER", "ADDRESS", "STATE", "CHUNKS", "WEIGHT", "FREE", "DISKS"],
        [
            [
                str(server.server_id),
                server.address,
                "up" if server.up else f"down for {server.last_seen_ms / 1000:.0f} s",
                str(server.chunks),
                str(server.weight),
                size(sum(disk.free_bytes for disk in server.disks)),
                ", ".join(
                    f"{disk.path}: {disk.state}" for disk in server.disks if disk.condition != cluster_pb2.DISK_OK
                )
                or f"{len(server.disks)} ok",
            ]
            for server in view.servers
        ],
        right=frozenset({"CHUNKS", "WEIGHT", "FREE"}),
    )
    if view.session_list:
        print_table(
            ["SESSION", "NAME", "HOST", "MOUNT", "IDLE", "OPEN"],
            [
                [str(s.id), s.name, s.host, s.mount_point, f"{s.idle_ms} ms", str(s.open_inodes)]
                for s in view.session_list
            ],
            right=frozenset({"IDLE", "OPEN"}),
        )
