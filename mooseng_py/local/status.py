"""What a local cluster looks like right now, as plain values that print as JSON. Changes nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

from mooseng_py.config import ConfigError, read_file
from mooseng_py.observe.probe import Answer, probe
from mooseng_py.topology import NodeSpec

from . import process
from .layout import Identity, Layout

# stopped: ended in good order or never started. dead: it should run and does not. waiting: runs, not ready yet.
State = Literal["stopped", "dead", "waiting", "ready"]


@dataclass(frozen=True)
class NodeStatus:
    """One node. `mount` is empty for nodes without one; `pid` is None unless the process runs."""

    name: str
    role: str
    index: int
    pid: int | None
    state: State
    reason: str
    addresses: dict[str, str]
    mount: str
    data_directories: list[str]
    config: str
    log: str


@dataclass(frozen=True)
class ClusterStatus:
    """The whole, the dashboard beside the nodes included where there is one. `state` is the worst of them; `leader` is the leading master's name, empty without one."""

    directory: str
    profile: str
    port_offset: int
    cluster_id: str
    state: State
    leader: str
    term: int
    masters: list[str]
    nodes: list[NodeStatus] = field(default_factory=list)


def http_address(node: NodeSpec) -> str:
    return f"127.0.0.1:{node.ports.http}"


def frames_address(node: NodeSpec) -> str:
    return f"127.0.0.1:{node.ports.frames}"


def look(layout: Layout, identity: Identity) -> ClusterStatus:
    """Ask every node that runs, all at once."""
    spec, everything = identity.spec(), identity.everything()
    with ThreadPoolExecutor(len(everything)) as pool:
        answers = dict(
            zip((node.name for node in everything), pool.map(lambda node: _ask(layout, node), everything), strict=True)
        )
    nodes = [_status(layout, node, answers[node.name]) for node in everything]
    order: list[State] = ["dead", "stopped", "waiting", "ready"]
    leader, term = _leader(spec.masters, answers)
    return ClusterStatus(
        directory=str(layout.directory),
        profile=identity.profile,
        port_offset=identity.port_offset,
        cluster_id=identity.cluster_id,
        state=min((node.state for node in nodes), key=order.index),
        leader=leader,
        term=term,
        masters=[frames_address(master) for master in spec.masters],
        nodes=nodes,
    )


def _ask(layout: Layout, node: NodeSpec) -> Answer | None:
    running = process.read(layout.pid_file(node))
    return probe(http_address(node)) if running is not None and running.alive() else None


def _status(layout: Layout, node: NodeSpec, answer: Answer | None) -> NodeStatus:
    known = process.read(layout.pid_file(node))
    config = _config(layout, node)
    state: State = "stopped"
    reason = "not started"
    if answer is not None:
        state, reason = ("ready" if answer.good else "waiting"), answer.reason
    elif known is not None:
        state, reason = (
            "dead",
            f"process {known.pid} is gone; start it with `mooseng local restart {node.name} --dir {layout.directory}`",
        )
    return NodeStatus(
        name=node.name,
        role=node.role,
        index=node.index,
        pid=known.pid if known is not None and answer is not None else None,
        state=state,
        reason=reason,
        addresses={kind: f"127.0.0.1:{port}" for kind, port in node.ports.items()},
        mount=str(config.get("mount_point", "")),
        data_directories=[str(config["data_dir"])]
        if "data_dir" in config
        else [str(disk) for disk in _list(config.get("disks"))],
        config=str(layout.config(node)),
        log=str(layout.log(node)),
    )


def _config(layout: Layout, node: NodeSpec) -> dict[str, object]:
    try:
        return read_file(layout.config(node))
    except ConfigError:
        return {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _leader(masters: tuple[NodeSpec, ...], answers: dict[str, Answer | None]) -> tuple[str, int]:
    """The master that says it leads, at the highest term."""
    found = ("", 0)
    for master in masters:
        answer = answers[master.name]
        if answer is not None and answer.details.get("is_leader") is True:
            term = int(answer.details.get("term", 0))
            if term >= found[1]:
                found = (master.name, term)
    return found
