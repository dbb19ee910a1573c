"""`mooseng ls|cat|put|get|rm|mkdir|stat`: work on files without a mount. `mooseng sync`: make a mount's bytes durable."""

from __future__ import annotations

import contextlib
import errno
import os
import stat as stats
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from mooseng_py.mount import mountpoint

from .connection import DEFAULT_TIMEOUT_S, DirOption, JsonOption, MastersOption, TimeoutOption, where
from .output import console, print_json, print_table, size

HERE = Path()
_KINDS = {
    stats.S_IFREG: "file",
    stats.S_IFDIR: "directory",
    stats.S_IFLNK: "symlink",
    stats.S_IFIFO: "fifo",
    stats.S_IFSOCK: "socket",
    stats.S_IFCHR: "character device",
    stats.S_IFBLK: "block device",
}
_STEP_BYTES = 1 << 20
_SYNC = "system.mooseng.sync"
# Shorter transfers are over before a bar could be read.
_PROGRESS_FROM_BYTES = 32 << 20


def register(app: typer.Typer) -> None:
    for command in (ls, cat, put, get, rm, mkdir, stat, sync):
        app.command()(command)


def sync(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Any path of a mount; default: all mounts here.")
    ] = None,
) -> None:
    """Make all that was written through mounts durable, as sync(1): the kernel does not hand that on to them.

    One that fails keeps no other from being synced.
    """
    failed: list[OSError] = []
    for path in paths or [Path(mount) for mount in mountpoint.ours()]:
        try:
            os.setxattr(path, _SYNC, b"")
        except OSError as error:
            foreign = error.errno == errno.EOPNOTSUPP
            failed.append(OSError(error.errno, "is not on a mount of MooseNG", str(path)) if foreign else error)
    if failed:
        raise failed[0]


def ls(
    path: Annotated[str, typer.Argument()] = "/",
    long: Annotated[bool, typer.Option("--long", "-l", help="With mode, owner, size and time.")] = False,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """List a directory, or show one file."""
    with where(masters, directory).connect(timeout) as fs:
        if fs.isdir(path):
            found = sorted(
                ((os.fsdecode(entry.name), entry.attributes) for entry in fs.scandir(path)), key=lambda pair: pair[0]
            )
        else:
            found = [(path, fs.lstat(path))]
    if as_json:
        print_json([{"name": name, **_facts(attributes)} for name, attributes in found])
    elif long:
        rows = [
            [
                stats.filemode(a.st_mode),
                str(a.st_nlink),
                str(a.st_uid),
                str(a.st_gid),
                str(a.st_size),
                _when(a.st_mtime),
                name,
            ]
            for name, a in found
        ]
        print_table(
            ["MODE", "LINKS", "UID", "GID", "SIZE", "MODIFIED", "NAME"],
            rows,
            right=frozenset({"LINKS", "UID", "GID", "SIZE"}),
        )
    else:
        for name, _ in found:
            sys.stdout.write(f"{_printable(name)}\n")


def cat(
    paths: list[str],
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
) -> None:
    """Write files to standard output."""
    buffer = memoryview(bytearray(_STEP_BYTES))
    with where(masters, directory).connect(timeout) as fs:
        for path in paths:
            with fs.open(path, "rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    sys.stdout.buffer.write(buffer[:count])
        sys.stdout.buffer.flush()


def put(
    source: Annotated[Path, typer.Argument(help="Local file, or directory with --recursive; - for standard input.")],
    target: Annotated[str, typer.Argument(help="Path in MooseNG; an existing directory takes the source's name.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r")] = False,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Copy files in. Each is durable, and appears when it is whole."""
    from_input = str(source) == "-"
    source = Path("/dev/stdin") if from_input else source
    if source.is_dir() and not recursive:
        raise IsADirectoryError(21, "is a directory; use --recursive", str(source))
    with where(masters, directory).connect(timeout) as fs:
        if from_input and fs.isdir(target):
            raise IsADirectoryError(21, "is a directory; standard input needs the name of a file", target)
        if fs.isdir(target) and not (recursive and source.is_dir() and target == "/"):
            target = f"{target.rstrip('/')}/{source.name}"
        pairs = [(source, target)]
        total = source.stat().st_size
        if source.is_dir():
            pairs, total = [], 0
            for folder, _, names in os.walk(source):
                there = (
                    target
                    if Path(folder) == source
                    else f"{target.rstrip('/')}/{Path(folder).relative_to(source).as_posix()}"
                )
                fs.makedirs(there, exist_ok=True)
                for name in names:
                    path = Path(folder, name)
                    if path.is_file():
                        pairs.append((path, f"{there.rstrip('/')}/{name}"))
                        total += path.stat().st_size
        with _progress(f"put {source}", total) as step:
            began = time.monotonic()
            done = sum(fs.put(local, remote, progress=step) for local, remote in pairs)
    _report(as_json, len(pairs), done, time.monotonic() - began, target)


def get(
    source: Annotated[str, typer.Argument(help="Path in MooseNG.")],
    target: Annotated[Path, typer.Argument(help="Local path; an existing directory takes the source's name.")] = HERE,
    recursive: Annotated[bool, typer.Option("--recursive", "-r")] = False,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Copy files out. Each appears when it is whole."""
    with where(masters, directory).connect(timeout) as fs:
        is_tree = fs.isdir(source)
        if is_tree and not recursive:
            raise IsADirectoryError(21, "is a directory; use --recursive", source)
        if target.is_dir():
            target = target / source.rstrip("/").rpartition("/")[2]
        pairs, total = [(source, target)], 0 if is_tree else fs.getsize(source)
        if is_tree:
            pairs = []
            for folder, _, names in fs.walk(source):
                here = target / folder.removeprefix(source).lstrip("/")
                here.mkdir(parents=True, exist_ok=True)
                for name in names:
                    path = f"{folder.rstrip('/')}/{name}"
                    if fs.isfile(path):
                        pairs.append((path, here / name))
                        total += fs.getsize(path)
        with _progress(f"get {source}", total) as step:
            began = time.monotonic()
            done = sum(fs.get(remote, local, progress=step) for remote, local in pairs)
    _report(as_json, len(pairs), done, time.monotonic() - began, str(target))


def rm(
    paths: list[str],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Directories with everything below.")] = False,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Remove files."""
    with where(masters, directory).connect(timeout) as fs:
        for path in paths:
            if recursive and fs.isdir(path) and not fs.islink(path):
                fs.rmtree(path)
            else:
                fs.remove(path)
    if as_json:
        print_json({"removed": paths})


def mkdir(
    paths: list[str],
    parents: Annotated[
        bool, typer.Option("--parents", "-p", help="Also the directories above; an existing one is fine.")
    ] = False,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Make directories."""
    with where(masters, directory).connect(timeout) as fs:
        for path in paths:
            fs.makedirs(path, exist_ok=True) if parents else fs.mkdir(path)
    if as_json:
        print_json({"made": paths})


def stat(
    path: str,
    masters: MastersOption = None,
    directory: DirOption = None,
    timeout: TimeoutOption = DEFAULT_TIMEOUT_S,
    as_json: JsonOption = False,
) -> None:
    """Everything the name space knows of a file. Symlinks are shown themselves."""
    with where(masters, directory).connect(timeout) as fs:
        found = fs.lstat(path)
        target = os.fsdecode(fs.readlink(path)) if stats.S_ISLNK(found.st_mode) else None
    facts = {"path": path, **_facts(found)} | ({"target": target} if target is not None else {})
    if as_json:
        print_json(facts)
    else:
        for key, value in facts.items():
            console.print(f"{key:>12}: {value}", soft_wrap=True)


def _facts(found: Any) -> dict[str, Any]:
    return {"type": _KINDS[stats.S_IFMT(found.st_mode)], "mode": f"{stats.S_IMODE(found.st_mode):04o}", **asdict(found)}


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _printable(name: str) -> str:
    """Names may hold any byte; a line per name stays a line per name."""
    return name.encode(errors="backslashreplace").decode().replace("\n", "\\n")


def _report(as_json: bool, files: int, done: int, seconds: float, target: str) -> None:
    if as_json:
        print_json({"files": files, "bytes": done, "seconds": seconds, "target": target})
    else:
        console.print(
            f"{files} file{'' if files == 1 else 's'}, {size(done)} in {seconds:.1f} s to {target}", soft_wrap=True
        )


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], object] | None]:
    """A bar on standard error, for long transfers that a person watches."""
    if total < _PROGRESS_FROM_BYTES or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
