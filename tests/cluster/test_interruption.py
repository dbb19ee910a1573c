"""A signal disturbs no operation on the mount; but who is killed goes at once, also while no majority of masters answers."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster, wait_until
from tests.scrape import counted, page_of
from tests.sharing.support import pid_of

# The daemon looks every 20 ms, and a tenth of a second is promised; the rest is for a busy machine. Unanswered it would be 30 s and more.
AT_ONCE_S = 0.5
BLOCKED_S = 0.4

# What each does in a directory of its own, once the masters are silent. Prepared before: `file` (open for reading and
# writing, more than lies in an inode, clean), `dirty` (the same, not synced), "name", "link", "sub"; `known`, `target` and
# `here` hold "name", "link" and the directory. A name is looked up first, whatever is done with it; a descriptor is not.
CALLS = {
    "stat": "os.stat('name')",
    "lookup of nothing": "os.path.exists('nothing')",
    "open": "os.open('name', os.O_RDONLY)",
    "create": "os.open('new', os.O_CREAT | os.O_WRONLY, 0o600)",
    "mkdir": "os.mkdir('new')",
    "rmdir": "os.rmdir('sub')",
    "unlink": "os.unlink('name')",
    "rename": "os.rename('name', 'new')",
    "link": "os.link('name', 'new')",
    "symlink": "os.symlink('name', 'new')",
    "readlink": "os.readlink('link')",
    "listing": "os.listdir('.')",
    "chmod": "os.chmod('name', 0o600)",
    "utime": "os.utime(file)",
    "truncate": "os.ftruncate(file, 10)",
    "access": "os.access('name', os.W_OK)",
    "statvfs": "os.statvfs('.')",
    "stat of a descriptor": "os.fstat(file)",
    "open of what is known": "os.open(f'/proc/self/fd/{known}', os.O_RDONLY)",
    "readlink of what is known": "os.readlink('', dir_fd=target)",
    "listing of what is open": "os.listdir(here)",
    "statvfs of a descriptor": "os.fstatvfs(file)",
    "getxattr of a descriptor": "os.getxattr(file, 'user.a')",
    "setxattr of a descriptor": "os.setxattr(file, 'user.a', b'')",
    "listxattr of a descriptor": "os.listxattr(file)",
    "a file without a name": "os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600)",
    "fsync": "os.fsync(dirty)",
    "close": "os.close(dirty)",
    "execve": "os.execv('./name', ['name'])",
}
PROGRAM = """
import os, signal, sys
signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell's background job, as this may be, ignores it
os.chdir(sys.argv[1])
os.mkdir('sub')
os.symlink('name', 'link')
for name in ('name', 'file', 'dirty'):
    with open(name, 'wb') as made:
        made.write(b'#!/bin/true\\n' + bytes(20_000))
os.chmod('name', 0o700)
file, dirty = os.open('file', os.O_RDWR), os.open('dirty', os.O_RDWR)
known, target = os.open('name', os.O_PATH), os.open('link', os.O_PATH | os.O_NOFOLLOW)
here = os.open('.', os.O_RDONLY)
print('ready', flush=True)
sys.stdin.readline()
os.pwrite(dirty, b'unsynced', 10_000)
print('begins', flush=True)
CALL
print('done', flush=True)
"""


class Caller:
    """A process that is about to do one call."""

    def __init__(self, folder: Path, call: str) -> None:
        folder.mkdir()
        program = PROGRAM.replace("CALL", call)
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", program, str(folder)], stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )
        self.hears("ready")

    def hears(self, word: str) -> None:
        assert self.process.stdout
        line = self.process.stdout.readline()
        assert line.strip() == word, (line, self.process.stderr and self.process.stderr.read())

    def begin(self) -> None:
        assert self.process.stdin
        print("go", file=self.process.stdin, flush=True)
        self.hears("begins")

    def killed_in_s(self, number: signal.Signals) -> float:
        start = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(30)
        return time.monotonic() - start

    def end(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=120)


Making = Callable[[Path, str], Caller]


@pytest.fixture
def caller() -> Iterator[Making]:
    """Makes them; none is left."""
    made: list[Caller] = []

    def make(folder: Path, call: str) -> Caller:
        made.append(Caller(folder, call))
        return made[-1]

    yield make
    for one in made:
        one.end()


class Silence:
    """Two masters paused: no majority answers."""

    def __init__(self, cluster: Cluster) -> None:
        self.paused = [pid_of(cluster, name) for name in cluster.names("master")[:2]]

    def begin(self) -> None:
        for pid in self.paused:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(1)  # leases end

    def end(self) -> None:
        for pid in self.paused:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def silence(cluster: Cluster) -> Iterator[Silence]:
    silence = Silence(cluster)
    try:
        yield silence
    finally:
        silence.end()
        probe = cluster.mount(1) / "probe"
        wait_until("the masters answer", lambda: probe.write_bytes(b"again") > 0, timeout_s=60)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT], ids=lambda it: it.name)
def test_who_is_killed_waits_for_no_answer(
    cluster: Cluster, caller: Making, silence: Silence, number: signal.Signals
) -> None:
    root = cluster.mount(1)
    calls = CALLS | {"end of a process with unsynced bytes": "sys.stdin.readline()"}
    callers = {name: caller(root / f"{number.name}-{at}", call) for at, (name, call) in enumerate(calls.items())}
    silence.begin()
    for one in callers.values():
        one.begin()
    time.sleep(BLOCKED_S)
    gone = {name: one.process.poll() for name, one in callers.items()}
    assert set(gone.values()) == {None}, f"they should wait for the masters: {gone}"
    took_s = {name: one.killed_in_s(number) for name, one in callers.items()}
    assert {name: s for name, s in took_s.items() if s > AT_ONCE_S} == {}
    assert {one.process.returncode for one in callers.values()} == {-number}


def test_what_nobody_waited_for_leaves_no_open_file(cluster: Cluster, caller: Making, silence: Silence) -> None:
    page = page_of(cluster, "client-2")
    one = caller(cluster.mount(2) / "left", CALLS["open of what is known"])
    files, opens = counted(page, OPEN_FILES), counted(page, OPENS)
    silence.begin()
    one.begin()
    time.sleep(BLOCKED_S)
    assert counted(page, OPENS) == opens
    assert one.killed_in_s(signal.SIGKILL) < AT_ONCE_S
    silence.end()
    wait_until("it is opened for nobody", lambda: counted(page, OPENS) > opens, timeout_s=30)
    wait_until("what it had open is closed", lambda: counted(page, OPEN_FILES) == files - 2, timeout_s=30)


OPENS = 'mooseng_fuse_request_seconds_count{operation="open"}'
OPEN_FILES = "mooseng_fuse_open_files"


def test_a_signal_each_millisecond_disturbs_no_operation(cluster: Cluster) -> None:
    """Through the C library, as Python repeats what a signal interrupts. Each call says how it ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = str(cluster.mount(1) / "signals").encode()
    signals = 0

    def count(_number: int, _frame: object) -> None:
        nonlocal signals
        signals += 1

    def done(result: int) -> int:
        assert result >= 0, os.strerror(ctypes.get_errno())
        return result

    done(libc.mkdir(folder, 0o700))
    before = signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        until, turn, data = time.monotonic() + 4, 0, b"x" * 20_000
        while time.monotonic() < until:
            name, other = folder + b"/%d" % turn, folder + b"/other"
            fd = done(libc.open(name, os.O_CREAT | os.O_RDWR, 0o600))
            assert done(libc.write(fd, data, len(data))) == len(data)
            done(libc.fsync(fd))
            back = ctypes.create_string_buffer(len(data))
            assert done(libc.pread(fd, back, len(data), 0)) == len(data)
            assert back.raw == data
            done(libc.ftruncate(fd, 100))
            done(libc.close(fd))
            done(libc.rename(name, other))
            done(libc.chmod(other, 0o644))
            done(libc.access(other, os.R_OK))
            done(libc.unlink(other))
            done(libc.mkdir(name, 0o700))
            done(libc.rmdir(name))
            turn += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert turn > 10
    assert signals > 500
