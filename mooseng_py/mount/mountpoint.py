"""Mount points: is one mounted, is it dead, detach it, and keep writes out of the empty directory below.

A mount whose daemon was killed answers ENOTCONN until it is detached. Source: fuse(4), umount2(2), ioctl_iflags(2).
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import subprocess
from pathlib import Path

_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_IMMUTABLE_FL = 0x10
_UMOUNT_TIMEOUT_S = 10


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
    wanted = os.path.abspath(path)
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
        for line in stream:
            fields, _, rest = line.partition(" - ")
            if _unescaped(fields.split(" ")[4]) == wanted:
                found = rest.split(" ")[0]
    return found


def is_dead(path: str | Path) -> bool:
    """True when a FUSE daemon that served `path` is gone."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return False


def detach(path: str | Path) -> None:
    """Take the FUSE mounts off `path`, busy or dead; other file systems are never touched.

    Raises: OSError naming the path, when a mount stays.
    """
    for _ in range(8):
        kind = mounted_type(path)
        if kind is None or not kind.startswith("fuse"):
            return
        _unmount_lazily(str(path))
    raise OSError(errno.EBUSY, "still mounted after detaching it; unmount it by hand with `umount -l`", str(path))


def _unmount_lazily(path: str) -> None:
    commands = (
        [["umount", "-l", path]] if os.geteuid() == 0 else [["fusermount3", "-uz", path], ["fusermount", "-uz", path]]
    )
    reason = ""
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_UMOUNT_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
            continue
        if done.returncode == 0:
            return
        reason = done.stderr.strip()
    raise OSError(errno.EBUSY, f"cannot be unmounted: {reason}", path)


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


def _unescaped(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text
