"""`mooseng local`: a cluster as processes on this machine."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mooseng_py.local import LocalCluster, LocalError
from mooseng_py.local.status import ClusterStatus

from .output import console, print_json, print_table

local = typer.Typer(help="Run a whole cluster as processes on this machine.", no_args_is_help=True)

DirOption = Annotated[Path, typer.Option("--dir", envvar="MOOSENG_DIR", help="Where the cluster keeps everything.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DEFAULT_DIR = Path(".mooseng")


@local.command()
def up(
    directory: DirOption = DEFAULT_DIR,
    profile: Annotated[
        str | None,
        typer.Option(
            help="minimal (1+1+1 nodes, one copy) or demo (3+3+3, three copies). Default: demo, or what DIR holds."
        ),
    ] = None,
    port_offset: Annotated[
        int | None, typer.Option(help="Added to every port, for a second cluster on this machine.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NODE.KEY=VALUE",
            help="Setting of a node (master-1) or of all nodes of a daemon (master); kept in DIR.",
        ),
    ] = None,
    dashboard: Annotated[
        bool | None,
        typer.Option(
            "--dashboard/--no-dashboard", help="Run the web dashboard beside the nodes. Default: no, or what DIR holds."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until every node must be ready.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Start the nodes that do not run, and return when all are ready. Data in DIR is used again."""
    cluster = LocalCluster(directory)
    report = cluster.up(
        profile,
        port_offset=port_offset,
        settings=_settings(settings or []),
        dashboard=dashboard,
        timeout_s=timeout,
    )
    if as_json:
        print_json(
            {"started": report.started, "seconds": report.seconds, "notes": report.notes, **asdict(cluster.status())}
        )
        return
    for note in report.notes:
        console.print(note)
    status = cluster.status()
    nodes = [node for node in status.nodes if node.role != "dashboard"]
    console.print(
        f"{len(nodes)} nodes ready after {report.seconds:.1f} s, {status.leader or 'no master'} leads; everything lies in {status.directory}"
    )
    if mounts := [node.mount for node in status.nodes if node.mount]:
        console.print(f"mounted on {', '.join(mounts)}")
    for service in status.nodes[len(nodes) :]:
        console.print(f"{service.name}: http://{service.addresses['http']}/")


@local.command()
def status(directory: DirOption = DEFAULT_DIR, as_json: JsonOption = False) -> None:
    """Every node: process, state, addresses, mount."""
    found = LocalCluster(directory).status()
    if as_json:
        print_json(asdict(found))
    else:
        _print_status(found)


@local.command()
def kill(node: str, directory: DirOption = DEFAULT_DIR, as_json: JsonOption = False) -> None:
    """End a node at once, as a crash would (SIGKILL)."""
    pid = LocalCluster(directory).kill(node)
    print_json({"name": node, "pid": pid}) if as_json else console.print(f"{node} (process {pid}) is killed")


@local.command()
def restart(
    node: str,
    directory: DirOption = DEFAULT_DIR,
    timeout: Annotated[float, typer.Option(help="Seconds until it must be ready.")] = 60.0,
    as_json: JsonOption = False,
) -> None:
    """Stop a node in good order, unless it is dead already, and start it again."""
    report = LocalCluster(directory).restart(node, timeout_s=timeout)
    if as_json:
        print_json({"name": node, "seconds": report.seconds, "ready": report.ready, "notes": report.notes})
        return
    for note in report.notes:
        console.print(note)
    if report.ready:
        console.print(f"{node} is ready after {report.seconds:.1f} s")


@local.command()
def down(
    directory: DirOption = DEFAULT_DIR,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge/--keep", help="Also remove data, logs and configuration, or keep them (default) for the next up."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop the dashboard, clients, then chunkservers, then masters."""
    cluster = LocalCluster(directory)
    killed = cluster.down(purge=purge)
    if as_json:
        print_json({"killed": killed, "purged": purge})
        return
    if killed:
        console.print(f"did not stop in time and were killed: {', '.join(killed)}")
    kept = (
        "everything it kept is removed"
        if purge
        else f"its data stays in {cluster.layout.directory}; `--purge` removes it"
    )
    console.print(f"the cluster is down; {kept}")


def _settings(texts: list[str]) -> dict[str, dict[str, str]]:
    """Raises: LocalError for a text that is not NODE.KEY=VALUE."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        left, equals, value = text.partition("=")
        name, dot, key = left.partition(".")
        if not (equals and dot and name and key):
            raise LocalError(f"--set {text!r} is not NODE.KEY=VALUE, for instance master.snapshot_every=1000")
        found.setdefault(name, {})[key] = value
    return found


def _print_status(found: ClusterStatus) -> None:
    leader = f"{found.leader} leads in term {found.term}" if found.leader else "no master leads"
    console.print(f"{found.profile} cluster {found.cluster_id} in {found.directory}: {found.state}, {leader}")
    rows = [
        [
            node.name,
            node.state,
            str(node.pid or ""),
            " ".join(f"{kind}={address.rpartition(':')[2]}" for kind, address in node.addresses.items()),
            node.mount if node.mount and node.state == "ready" else node.reason,
        ]
        for node in found.nodes
    ]
    print_table(["NODE", "STATE", "PID", "PORTS", "MOUNT OR REASON"], rows, right=frozenset({"PID"}))
