"""Are the ports free, and if not, who has them. Source: proc_pid_net(5)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable

from mooseng_py.topology import NodeSpec

from .errors import LocalError

_LISTEN = "0A"


def require_free(nodes: Iterable[NodeSpec], host: str = "127.0.0.1") -> None:
    """Raises: LocalError naming the first port that is taken and, where it can be seen, by whom."""
    for node in nodes:
        for kind, port in node.ports.items():
            if (reason := _refusal(host, port)) is not None:
                raise LocalError(
                    f"{node.name}'s {kind} port {port} is taken{_by_whom(port)} ({reason}); stop that process"
                    + (
                        " or leave it out with --no-dashboard"
                        if node.role == "dashboard"
                        else " or choose another --port-offset"
                    )
                )


def _refusal(host: str, port: int) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
        # As the daemons do: connections of a former run in TIME_WAIT are no obstacle.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind((host, port))
            candidate.listen(1)
        except OSError as error:
            return error.strerror or errno.errorcode.get(error.errno or 0, "refused")
    return None


def _by_whom(port: int) -> str:
    inode = _listening_inode(port)
    if inode is None:
        return ""
    wanted = f"socket:[{inode}]"
    for pid in filter(str.isdigit, os.listdir("/proc")):  # plain names are wanted
        try:
            if any(
                os.readlink(f"/proc/{pid}/fd/{handle}") == wanted for handle in os.listdir(f"/proc/{pid}/fd")
            ):  # as above
                with open(f"/proc/{pid}/cmdline", "rb") as stream:
                    command = stream.read().replace(b"\0", b" ").decode(errors="replace").strip()
                return f" by process {pid}, {command[:120]!r}"
        except OSError:
            continue
    return ""


def _listening_inode(port: int) -> str | None:
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as stream:
                rows = [line.split() for line in stream.readlines()[1:]]
        except OSError:
            continue
        for row in rows:
            if int(row[1].rpartition(":")[2], 16) == port and row[3] == _LISTEN:
                return row[9]
    return None
