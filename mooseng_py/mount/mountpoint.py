"""Mount points: is one mounted, is it dead, what is built on it, detach it, and keep writes out of the empty directory below.

A mount whose daemon was killed answers ENOTCONN until it is detached. Source: fuse(4), umount2(2), ioctl_iflags(2), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL = 0x10
# What mount(8) and df(1) show of our mounts.
SOURCE = "mooseng"
_UMOUNT_TIMEOUT_S = 5
_LAST_WAIT_S = 0.5


def fuse_missing() -> str | None:
    """Why FUSE cannot be used here, in one sentence; None when it can."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return (
            f"/dev/fuse cannot be opened ({error.strerror}); load the fuse module or pass the device into the container"
        )
    return None


def mounted_type(path: str | Path) -> str | None:
    """The type of the topmost file system mounted exactly at `path`, dead or alive; None when nothing is mounted there."""
    mount = _topmost(path)
    return mount.kind if mount else None


def ours() -> list[str]:
    """Where this mount name space shows mounts of MooseNG, dead or alive."""
    return sorted({mount.path for mount in _mounts() if mount.kind.startswith("fuse") and mount.source == SOURCE})


def in_the_way(path: str | Path) -> str:
    """What is built on the mount at `path` and would lose data with it, as a sentence with the mend; empty for nothing.

    Looks at what this mount name space shows, and at no file of the mount.
    """
    inside = _real(path) + "/"
    below = [mount.path for mount in _mounts() if mount.path.startswith(inside)]
    if below:
        return f"{below[-1]} is mounted below {path}; unmount it first (`umount {below[-1]}`)"
    for device, file in _loop_devices():
        if file.startswith(inside):
            return f"the loop device {device} is the file {file}; unmount what it holds and detach it first (`losetup -d {device}`)"
    return ""


def is_dead(path: str | Path) -> bool:
    """True when a FUSE daemon that served `path` is gone."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def detach(path: str | Path) -> None:
    """Take the FUSE mounts off `path`, busy or dead, with what is mounted below; other file systems are never touched.

    A process of its own does it, within a time limit. Raises: OSError naming the path, when a mount stays.
    """
    for _ in range(8):
        mount = _topmost(path)
        if mount is None or not mount.kind.startswith("fuse"):
            return
        try:
            _unmount_lazily(str(path))
        except TimeoutError:
            # The kernel waits for an answer that does not come; cut off, it gets none and goes on.
            _abort(mount.connection)
    raise OSError(errno.EBUSY, "still mounted after detaching it; unmount it by hand with `umount -l`", str(path))


def _unmount_lazily(path: str) -> None:
    """Raises: TimeoutError; OSError with what the last program tried says."""
    is_root = os.geteuid() == 0
    commands = [["umount", "-c", "-i", "-l"]] if is_root else [["fusermount3", "-u", "-z"], ["fusermount", "-u", "-z"]]
    reason = ""
    for command in commands:
        try:
            # No `run`, which after the time limit waits for the end of a process that may have none.
            process = subprocess.Popen(
                [*command, "--", path],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            _, reason = process.communicate(timeout=_UMOUNT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            _leave(process)
            raise TimeoutError(errno.ETIMEDOUT, "unmounting it does not come to its end", path) from None
        except OSError as error:
            reason = str(error)
            continue
        if process.returncode == 0:
            return
    raise OSError(errno.EBUSY, f"cannot be unmounted: {reason.strip()}", path)


def _leave(process: subprocess.Popen[str]) -> None:
    """End what can be ended; what the kernel holds ends when the kernel lets it, and nobody waits for that."""
    process.kill()
    if process.stderr is not None:
        process.stderr.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_LAST_WAIT_S)


def _abort(connection: int) -> None:
    """Cut the kernel's connection to a FUSE daemon, dead or alive. Needs root. Source: the kernel's filesystems/fuse.rst."""
    with contextlib.suppress(OSError):
        Path(f"/sys/fs/fuse/connections/{connection}/abort").write_text("1", encoding="ascii")


def protect(path: str | Path) -> bool:
    """Make an empty directory immutable, so that nothing is written below a mount that is gone.

    False where the file system or our rights do not allow it. Nothing happens while something is mounted there.
    """
    return mounted_type(path) is None and _set_immutable(path, True)


def unprotect(path: str | Path) -> bool:
    """Undo `protect`."""
    return mounted_type(path) is None and _set_immutable(path, False)


def _set_immutable(path: str | Path, on: bool) -> bool:
    flags = array.array("l", [0])
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.ioctl(handle, _FS_IOC_GETFLAGS, flags)
        wanted = flags[0] | _FS_IMMUTABLE_FL if on else flags[0] & ~_FS_IMMUTABLE_FL
        if wanted != flags[0]:
            flags[0] = wanted
            fcntl.ioctl(handle, _FS_IOC_SETFLAGS, flags)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@dataclass(frozen=True, slots=True)
class _Mount:
    path: str
    kind: str
    source: str
    connection: int  # the minor number of its device, by which the kernel lists a FUSE connection


def _mounts() -> list[_Mount]:
    """What this mount name space shows, the topmost of one path last."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            before, _, after = line.partition(" - ")
            fields = before.split(" ")
            minor = int(fields[2].partition(":")[2])
            kind, source = after.split(" ")[:2]
            found.append(_Mount(_unescaped(fields[4]), kind, source, minor))
    return found


def _topmost(path: str | Path) -> _Mount | None:
    """What is mounted exactly at `path`, the last of several."""
    wanted = _real(path)
    return next((mount for mount in reversed(_mounts()) if mount.path == wanted), None)


def _loop_devices() -> list[tuple[str, str]]:
    """Device and file of every loop device in use."""
    found = []
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # gone meanwhile
            found.append(
                (f"/dev/{file.parts[3]}", file.read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n"))
            )
    return sorted(found)


def _real(path: str | Path) -> str:
    """Absolute and without links, as the kernel shows it, without looking at `path` itself: a dead mount does not answer."""
    directory, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(directory), name)


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
