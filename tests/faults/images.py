"""Small ext4 file systems in files, to be filled, frozen or cut off from their power. Each is undone on every way out."""

import contextlib
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from mooseng_py.demo.harness import wait_until

# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: what was not synced is gone, as after a power cut.
_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2


class Image:
    """One ext4 image, mounted at `point`. `detach` is safe at any time and more than once."""

    def __init__(self, point: Path, megabytes: int, *, inodes: int | None = None) -> None:
        self.point = point
        self.file = point.with_name(point.name + ".img")
        point.mkdir(parents=True, exist_ok=True)
        with self.file.open("wb") as file:
            file.truncate(megabytes << 20)
        few = [] if inodes is None else ["-N", str(inodes)]
        _run("mkfs.ext4", "-q", "-F", "-m", "0", *few, str(self.file))
        self.attach()

    def attach(self) -> None:
        """Mount it; the journal is replayed by that."""
        _run("mount", "-o", "loop,noatime", str(self.file), str(self.point))

    def detach(self) -> None:
        """Unmount, whatever still uses it; the loop device goes with the mount."""
        while os.path.ismount(self.point):
            _run("umount", "-l", str(self.point))

    def replay(self) -> None:
        """Unmount and mount: what a machine does that starts again after its power went.

        Not lazily: while a thread of a killed process still ends, a second mount would show the same cut file system.
        """
        wait_until(f"{self.point} unmounted", self._is_unmounted)
        self.attach()

    def _is_unmounted(self) -> bool:
        return subprocess.run(["umount", str(self.point)], capture_output=True, check=False).returncode == 0

    def cut_power(self) -> None:
        """From here on nothing reaches the image, and what was not synced is lost."""
        fd = os.open(self.point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def abort(self) -> None:
        """As the kernel does after an error of the disk: read-only at once, whoever writes."""
        _run("mount", "-o", "remount,abort", str(self.point))

    def free_bytes(self) -> int:
        stat = os.statvfs(self.point)
        return stat.f_bavail * stat.f_frsize


@contextlib.contextmanager
def images(*wanted: Image) -> Iterator[tuple[Image, ...]]:
    """Have them undone in any case."""
    try:
        yield wanted
    finally:
        for image in wanted:
            image.detach()
            image.file.unlink(missing_ok=True)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
