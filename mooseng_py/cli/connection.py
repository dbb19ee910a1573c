"""Which cluster a command means: --stack, --masters, MOOSENG_MASTERS, or the local cluster under --dir."""

from __future__ import annotations

import os
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mooseng_py.local import LocalCluster

from .errors import UsageError
from .stack import masters_of

if TYPE_CHECKING:
    from mooseng_py.sdk import FileSystem

MastersOption = Annotated[
    str | None,
    typer.Option(
        "--masters", envvar="MOOSENG_MASTERS", metavar="HOST:PORT,...", help="Frames addresses of the masters."
    ),
]
DirOption = Annotated[
    Path | None,
    typer.Option(
        "--dir", envvar="MOOSENG_DIR", help="Directory of a local cluster. Default: .mooseng, when it is there."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="How long an operation is tried.")]
DEFAULT_DIR = Path(".mooseng")
DEFAULT_TIMEOUT_S = 60.0
# The Pulumi stack that `mooseng --stack NAME` names, for the command that follows.
selected_stack: ContextVar[str | None] = ContextVar("selected_stack", default=None)


@dataclass(frozen=True, slots=True)
class Where:
    """The masters of one cluster, host:port each."""

    masters: tuple[str, ...]

    def connect(self, timeout_s: float = DEFAULT_TIMEOUT_S) -> FileSystem:
        """A session with the cluster. Raises: UnavailableError, UsageError."""
        from mooseng_py.sdk import connect

        try:
            return connect(
                f"mooseng://{','.join(self.masters)}/",
                name=f"mooseng-{os.getpid()}",
                deadline_ms=max(100, int(timeout_s * 1000)),
            )
        except ValueError as error:
            raise UsageError(str(error)) from None


def where(masters: str | None, directory: Path | None) -> Where:
    """Raises: UsageError when nothing names a cluster, or the stack has none; LocalError when DIR holds none."""
    if (stack := selected_stack.get()) is not None:
        return Where(masters_of(stack))
    if masters:
        return Where(tuple(part.strip() for part in masters.split(",") if part.strip()))
    if directory is None and not (DEFAULT_DIR / "cluster.json").exists():
        raise UsageError(
            "which cluster? Give --masters host:port,..., set MOOSENG_MASTERS, name a local cluster with --dir, "
            "or a Pulumi stack with `mooseng --stack NAME ...`"
        )
    return Where(tuple(LocalCluster(directory or DEFAULT_DIR).masters()))
