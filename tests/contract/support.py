"""What the checks of the contract share: refusals as numbers, and Python code run as another user."""

import contextlib
import errno
import io
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20


def refused(call: Callable[[], object]) -> int | None:
    """The errno with which `call` fails; None when it succeeds."""
    try:
        call()
    except OSError as error:
        return error.errno
    return None


TRY = """
def refused(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
"""


def as_user(
    script: str,
    *,
    cwd: Path,
    uid: int = 1234,
    gid: int = 1234,
    groups: tuple[int, ...] = (),
    names: Mapping[str, object] | None = None,
) -> str:
    """Run Python code in `cwd` as another user, in a child process, with `names` known; return what it printed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(cwd)
            os.setgroups(list(groups))
            os.setgid(gid)
            os.setuid(uid)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(TRY + script, {"os": os, "errno": errno, **(names or {})})
            os.write(writer, printed.getvalue().encode())
        except BaseException as error:  # noqa: BLE001 - the child reports whatever happened and never returns
            os.write(writer, f"failed: {error!r}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read().decode().strip()
    os.waitpid(child, 0)
    return answer


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child; its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child never returns
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def copies_by_tools(folder: Path, rsync: str, tar: str) -> list[Path]:
    """`folder`/tree as cp -a, rsync and tar carry it along, with these options."""
    for command in (
        "cp -a tree copied",
        f"rsync {rsync} tree/ synced",
        f"tar {tar} -cf tree.tar tree && tar {tar} -xpf tree.tar --one-top-level=tarred",
    ):
        subprocess.run(command, shell=True, cwd=folder, check=True)
    return [folder / "copied", folder / "synced", folder / "tarred" / "tree"]
