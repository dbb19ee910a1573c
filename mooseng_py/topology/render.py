"""The configuration file of each node, as TOML text. What differs between ways to run a cluster comes in as arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from .spec import ClusterSpec, NodeSpec

# Where others reach a port of a node, as host:port.
Resolve = Callable[[NodeSpec], str]
Value = str | int | bool | list[str]


def render_config(
    spec: ClusterSpec,
    node: NodeSpec,
    *,
    resolve: Resolve,
    directory: str,
    cluster_id: str,
    listen_host: str = "127.0.0.1",
    mount_point: str = "",
    log_format: str = "console",
    settings: Mapping[str, Value] | None = None,
    resolve_http: Resolve | None = None,
) -> str:
    """The TOML file of `node`, which keeps its data under `directory`. Same arguments, same bytes.

    `resolve`: where others reach a node's frames port; `resolve_http`, for the dashboard: its http port.
    `listen_host`: what its ports bind to. `mount_point`: clients only, empty runs the engine without a mount.
    `settings`: further keys, as in `mooseng_py.config`; they win over the rendered ones.
    """
    values: dict[str, Value] = {
        "role": node.command,
        "name": node.name,
        "cluster_id": cluster_id,
        "http_listen": f"{listen_host}:{node.ports.http}",
        "log_format": log_format,
    }
    tables: dict[str, dict[str, str]] = {}
    masters = [resolve(master) for master in spec.masters]
    if node.role == "master":
        values |= {
            "node_id": node.index,
            "listen": f"{listen_host}:{node.ports.frames}",
            "advertise": resolve(node),
            "grpc_listen": f"{listen_host}:{node.ports.grpc}",
            "data_dir": f"{directory}/{node.data_directories[0]}",
            "copies": spec.copies,
            "min_copies": spec.min_copies,
        }
        tables["peers"] = {str(master.index): resolve(master) for master in spec.masters}
    elif node.role == "chunkserver":
        values |= {
            "server_id": node.index,
            "masters": masters,
            "listen": f"{listen_host}:{node.ports.frames}",
            "advertise": resolve(node),
            "disks": [f"{directory}/{name}" for name in node.data_directories],
        }
    elif node.role == "client":
        values |= {"masters": masters, "mount_point": mount_point}
    else:
        values |= {"masters": masters}
        tables["nodes"] = {other.name: resolve_http(other) for other in spec.nodes} if resolve_http else {}
    values |= dict(settings or {})
    lines = [f"# {node.name}: written by MooseNG from profile {spec.profile!r}. Keys: mooseng {node.command} --help"]
    lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
    for table, entries in tables.items():
        lines += ["", f"[{table}]", *(f"{key} = {_toml(value)}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    # JSON's escapes are a subset of TOML's basic strings, except that TOML has no surrogates and no raw DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
