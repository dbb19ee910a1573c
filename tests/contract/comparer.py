"""The same calls, by several users and through two mounts of a cluster, and on a local file system: every answer must be the same.

A seed decides the calls. Whoever makes them are processes of their own, one for each user and mount, with their own umask, groups and
descriptors. Each answer is an errno or what is comparable of a result; now and then, and at the end, all that there is is looked at
through every mount. The same again:

    PYTHONPATH=. python tests/contract/comparer.py --seed SEED --mounts DIR1 DIR2 [--steps N]
"""

import argparse
import contextlib
import ctypes
import errno
import hashlib
import os
import pickle
import random
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.allocation import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate

libc = ctypes.CDLL(None, use_errno=True)

STEPS = 150
SLOTS = 3
AT_FDCWD = -100
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4


@dataclass(frozen=True)
class User:
    """Whom an actor is."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


USERS = (User(0, 0), User(1201, 1201, (3100,)), User(1202, 1202, (3100, 1201)), User(1203, 1203))


@dataclass(frozen=True)
class Call:
    """One call. `user`, `side`: whose it is, and through which mount."""

    user: int
    side: int
    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.name}{self.args} by {USERS[self.user].uid} on side {self.side}"


Answer = tuple[str, Any]


# ---- what an actor does ----------------------------------------------------------------------------------------------
def checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


class Actor:
    """Runs in a process of its own, as its user, in its folder."""

    def __init__(self) -> None:
        self.slots: list[int | None] = [None] * SLOTS

    def fd(self, slot: int) -> int:
        found = self.slots[slot]
        if found is None:
            raise OSError(errno.EBADF, "an empty slot")
        return found

    def open(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        fd = os.open(path, flags | os.O_NONBLOCK, mode)
        old, self.slots[slot] = self.slots[slot], fd
        if old is not None:
            os.close(old)

    def close(self, slot: int) -> None:
        fd = self.fd(slot)
        self.slots[slot] = None
        os.close(fd)

    def write(self, slot: int, offset: int, length: int, seed: int) -> int:
        count = os.pwrite(self.fd(slot), random.Random(seed).randbytes(length), offset)
        os.fsync(self.fd(slot))
        return count

    def read(self, slot: int, offset: int, length: int) -> str:
        os.fstat(self.fd(slot))  # what others synced is seen from here on
        return hashlib.sha1(os.pread(self.fd(slot), length, offset)).hexdigest()

    def ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self.fd(slot), size)

    def fstat(self, slot: int) -> tuple[int, ...]:
        return comparable(os.fstat(self.fd(slot)))

    def fchmod(self, slot: int, mode: int) -> None:
        os.fchmod(self.fd(slot), mode)

    def fallocate(self, slot: int, mode: int, offset: int, length: int) -> None:
        fallocate(self.fd(slot), mode, offset, length)

    def copy(self, slot: int, other: int, length: int, at: int, to: int) -> int:
        return os.copy_file_range(self.fd(slot), self.fd(other), length, at, to)

    def rename_with(self, source: bytes, target: bytes, flags: int) -> None:
        checked(libc.renameat2(AT_FDCWD, source, AT_FDCWD, target, flags))

    def stat(self, path: bytes) -> tuple[int, ...]:
        return comparable(os.stat(path))

    def lstat(self, path: bytes) -> tuple[int, ...]:
        return comparable(os.lstat(path))

    def listdir(self, path: bytes) -> list[bytes]:
        return sorted(os.listdir(path))

    def utime(self, path: bytes, atime_ns: int, mtime_ns: int) -> int:
        os.utime(path, ns=(atime_ns, mtime_ns), follow_symlinks=False)
        return os.lstat(path).st_mtime_ns

    def listxattr(self, path: bytes) -> list[str]:
        return sorted(name for name in os.listxattr(path, follow_symlinks=False) if name != "security.selinux")

    def umask(self, mask: int) -> None:
        os.umask(mask)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        os.mknod(path, mode, device)

    def tree(self) -> list[Any]:
        """All that there is."""
        found: list[Any] = []
        for folder, folders, files in os.walk(b".", followlinks=False):
            folders.sort()
            for name in sorted([*folders, *files]):
                path = os.path.join(folder, name)
                status = os.lstat(path)
                entry: list[Any] = [path, comparable(status), self.listxattr(path)]
                if stat.S_ISLNK(status.st_mode):
                    entry.append(os.readlink(path))
                elif stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as file:
                        entry.append(hashlib.sha1(file.read()).hexdigest())
                found.append(entry)
        return found

    def do(self, call: Call) -> Answer:
        known: Callable[..., Any] = getattr(self, call.name, None) or getattr(os, call.name)
        try:
            return "gave", known(*call.args)
        except OSError as error:
            return "refused", errno.errorcode.get(error.errno or 0, str(error.errno))


def comparable(status: os.stat_result) -> tuple[int, ...]:
    """Sizes of directories and what a file system chooses by itself are left out."""
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    links = 0 if stat.S_ISDIR(status.st_mode) else status.st_nlink
    return status.st_mode, links, status.st_uid, status.st_gid, size, status.st_rdev


class Process:
    """An actor as its driver sees it."""

    def __init__(self, user: User, folder: Path) -> None:
        there, self.calls = os.pipe()
        self.answers, back = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.chdir(folder)
                os.setgroups(list(user.groups))
                os.setgid(user.gid)
                os.setuid(user.uid)
                os.umask(0o022)
                act(there, back)
            finally:
                os._exit(0)
        os.close(there)
        os.close(back)

    def do(self, call: Call) -> Answer:
        put(self.calls, call)
        answer: Answer = get(self.answers)
        return answer

    def end(self) -> None:
        os.close(self.calls)
        os.close(self.answers)
        os.waitpid(self.pid, 0)


def act(calls: int, answers: int) -> None:
    # The ends that the driver uses, of this actor and of those made before it, must not keep anybody alive.
    for fd in range(3, 256):
        if fd not in (calls, answers):
            with contextlib.suppress(OSError):
                os.close(fd)
    actor = Actor()
    with contextlib.suppress(EOFError):
        while True:
            put(answers, actor.do(get(calls)))


def put(fd: int, value: object) -> None:
    data = pickle.dumps(value)
    data = len(data).to_bytes(4, "little") + data
    while data:
        data = data[os.write(fd, data) :]


def get(fd: int) -> Any:
    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = os.read(fd, count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    return pickle.loads(exactly(int.from_bytes(exactly(4), "little")))


class World:
    """One file system, seen through two folders that are the same one."""

    def __init__(self, sides: tuple[Path, Path]) -> None:
        self.actors = {
            (number, side): Process(user, folder)
            for number, user in enumerate(USERS)
            for side, folder in enumerate(sides)
        }

    def do(self, call: Call) -> Answer:
        return self.actors[call.user, call.side].do(call)

    def end(self) -> None:
        for actor in self.actors.values():
            actor.end()


# ---- what is called --------------------------------------------------------------------------------------------------
@dataclass
class Program:
    """The calls of one seed."""

    seed: int
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)

    def path(self) -> bytes:
        dice = self.dice
        if dice.random() < 0.04:
            return dice.choice([b"", b".", b"a/..", b"a/", b"a/.", b"n" * 256, b"\xff\xfe", b"a//b", b"..data"])
        return b"/".join(dice.choice([b"a", b"b", b"c"]) for _ in range(dice.choice([1, 1, 2, 2, 3])))

    def mode(self) -> int:
        dice = self.dice
        if dice.random() < 0.7:
            return dice.choice([0o777, 0o755, 0o666, 0o644])
        return dice.choice([0o700, 0o600, 0o4755, 0o2775, 0o1777, 0o000, 0o311, 0o222, 0o770])

    def slot(self) -> int:
        return self.dice.randrange(SLOTS)

    def span(self) -> tuple[int, int]:
        return self.dice.choice([0, 1, 4000, 8190, 70_000]), self.dice.choice([1, 100, 5000, 150_000])

    def owner(self) -> int:
        return self.dice.choice([-1, 0, 1201, 1202, 1203, 3100])

    def attribute(self) -> str:
        return self.dice.choice(["user.a", "user.b", "trusted.t", "security.s", "system.unknown", "user."])

    def calls(self) -> Iterator[Call]:
        weights = WEIGHTS
        # Something to begin with.
        yield Call(0, 0, "mkdir", (b"a", 0o777))
        yield Call(1, 0, "mkdir", (b"b", 0o777))
        yield Call(0, 0, "chmod", (b"a", self.dice.choice([0o777, 0o1777, 0o2777])))
        for slot, (user, path) in enumerate([(0, b"c"), (1, b"a/a"), (2, b"a/b")]):
            yield Call(user, slot % 2, "open", (slot, path, os.O_CREAT | os.O_RDWR, 0o666))
        while True:
            (name,) = self.dice.choices(list(weights), list(weights.values()))
            user = self.dice.choice([0, 0, 1, 1, 2, 3])
            yield Call(user, self.dice.randrange(2), name, self.args(name))

    def args(self, name: str) -> tuple[Any, ...]:
        dice = self.dice
        flags = dice.choice([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
        flags |= dice.choice([0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL])
        flags |= dice.choice([0, 0, 0, os.O_TRUNC, os.O_APPEND, os.O_NOFOLLOW, os.O_DIRECTORY])
        value = dice.randbytes(dice.choice([0, 10, 300]))
        make: dict[str, Callable[[], tuple[Any, ...]]] = {
            "open": lambda: (
                self.slot(),
                self.path(),
                flags & ~os.O_DIRECTORY if flags & os.O_CREAT else flags,
                self.mode(),
            ),
            "close": lambda: (self.slot(),),
            "write": lambda: (self.slot(), *self.span(), dice.randrange(1 << 30)),
            "read": lambda: (self.slot(), *self.span()),
            "ftruncate": lambda: (self.slot(), self.span()[0]),
            "fstat": lambda: (self.slot(),),
            "fchmod": lambda: (self.slot(), self.mode()),
            "fallocate": lambda: (
                self.slot(),
                dice.choice([0, KEEP_SIZE, KEEP_SIZE | PUNCH_HOLE, ZERO_RANGE, ZERO_RANGE | KEEP_SIZE, PUNCH_HOLE]),
                *self.span(),
            ),
            "copy": lambda: (self.slot(), self.slot(), self.span()[1], self.span()[0], self.span()[0]),
            "truncate": lambda: (self.path(), self.span()[0]),
            "mkdir": lambda: (self.path(), self.mode()),
            "rmdir": lambda: (self.path(),),
            "unlink": lambda: (self.path(),),
            "link": lambda: (self.path(), self.path()),
            "symlink": lambda: (self.path(), self.path()),
            "readlink": lambda: (self.path(),),
            "rename": lambda: (self.path(), self.path()),
            "rename_with": lambda: (self.path(), self.path(), dice.choice([NOREPLACE, EXCHANGE, WHITEOUT, 3])),
            "chmod": lambda: (self.path(), self.mode()),
            "chown": lambda: (self.path(), self.owner(), self.owner()),
            "lchown": lambda: (self.path(), self.owner(), self.owner()),
            "utime": lambda: (self.path(), dice.randrange(1 << 60), dice.randrange(1 << 60)),
            "stat": lambda: (self.path(),),
            "lstat": lambda: (self.path(),),
            "access": lambda: (self.path(), dice.randrange(8)),
            "listdir": lambda: (self.path(),),
            "setxattr": lambda: (self.path(), self.attribute(), value, dice.choice([0, 0, 1, 2])),
            "getxattr": lambda: (self.path(), self.attribute()),
            "removexattr": lambda: (self.path(), self.attribute()),
            "listxattr": lambda: (self.path(),),
            "mkfifo": lambda: (self.path(), self.mode()),
            "mknod": lambda: (
                self.path(),
                self.mode() | dice.choice([stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK, stat.S_IFREG]),
                dice.choice([0, os.makedev(1, 3)]),
            ),
            "umask": lambda: (dice.choice([0o022, 0o077, 0o000, 0o027]),),
        }
        return make[name]()


WEIGHTS = {
    "open": 14, "close": 3, "write": 10, "read": 8, "ftruncate": 3, "fstat": 4, "fchmod": 2, "fallocate": 4, "copy": 2,
    "truncate": 3, "mkdir": 8, "rmdir": 3, "unlink": 5, "link": 5, "symlink": 4, "readlink": 2, "rename": 7, "rename_with": 3,
    "chmod": 6, "chown": 5, "lchown": 2, "utime": 3, "stat": 5, "lstat": 4, "access": 4, "listdir": 4, "setxattr": 4,
    "getxattr": 3, "removexattr": 2, "listxattr": 2, "mkfifo": 2, "mknod": 2, "umask": 1,
}  # fmt: skip


# What is refused for want of a right, as the kernel refuses it for another reason: of a mount that checks rights itself, it looks at
# what it can see first. (found, right)
KERNEL_ASKS_LATER = {
    (found, right) for found in ("ENOTDIR", "EISDIR", "EPERM", "ENOTEMPTY") for right in ("EACCES", "EPERM")
}  # fmt: skip


def is_same(found: Answer, right: Answer) -> bool:
    if found == right:
        return True
    return found[0] == right[0] == "refused" and (found[1], right[1]) in KERNEL_ASKS_LATER


class Differ(AssertionError):
    """Two file systems answered differently."""


def compare(seed: int, sides: tuple[Path, Path], local: tuple[Path, Path], steps: int = STEPS) -> int:
    """Run one seed on both, in empty folders. -> how many calls gave something. Raises: Differ."""
    for folder in (sides[0], local[0]):
        folder.chmod(0o777)
    ours, theirs = World(sides), World(local)
    gave = 0
    done: list[str] = []
    try:
        for step, call in zip(range(steps), Program(seed).calls(), strict=False):
            found, right = ours.do(call), theirs.do(call)
            done.append(f"{step}: {call} -> {right}")
            if not is_same(found, right):
                raise Differ(f"seed {seed}: {found} in place of {right}\n  " + "\n  ".join(done[-25:]))
            gave += right[0] == "gave"
            if step % 50 == 49 or step == steps - 1:
                look(ours, theirs, seed, done)
    finally:
        ours.end()
        theirs.end()
    return gave


def look(ours: World, theirs: World, seed: int, done: list[str]) -> None:
    """All that there is, through both mounts, by root."""
    right = theirs.do(Call(0, 0, "tree", ()))
    for side in range(2):
        found = ours.do(Call(0, side, "tree", ()))
        if found != right:
            pairs = zip(found[1], right[1], strict=False)
            first = next((pair for pair in pairs if pair[0] != pair[1]), (found[1][-1:], right[1][-1:]))
            raise Differ(
                f"seed {seed}: side {side} has {first[0]} in place of {first[1]}\n  " + "\n  ".join(done[-25:])
            )


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--mounts", type=Path, nargs=2, required=True)
    options.add_argument("--steps", type=int, default=STEPS)
    chosen = options.parse_args()
    name = f"compared-{chosen.seed}-{os.getpid()}"
    sides = (chosen.mounts[0] / name, chosen.mounts[1] / name)
    sides[0].mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        print(f"{compare(chosen.seed, sides, (Path(folder), Path(folder)), chosen.steps)} calls gave something")
    return 0


if __name__ == "__main__":
    sys.exit(main())
