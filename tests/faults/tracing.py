"""Faults injected into the system calls of one running process by strace: errors, delays, death at the n-th call."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path


@contextlib.contextmanager
def injected(pid: int, *rules: str, paths: Sequence[Path] = (), timeout_s: float = 10) -> Iterator[None]:
    """While inside, the calls of `pid` are changed by `rules` ("fdatasync:error=EIO:when=2+"), on `paths` only when
    some are given. Leaves the process running when it still does.
    """
    calls = ",".join(rule.split(":", 1)[0] for rule in rules)
    command = ["strace", "-f", "-qq", "-p", str(pid), "-o", "/dev/null", "-e", f"trace={calls}"]
    for path in paths:
        command += ["-P", str(path)]
    for rule in rules:
        command += ["-e", f"inject={rule}"]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + timeout_s
        while not all_traced(pid, tracer.pid):
            if tracer.poll() is not None:
                if not is_running(pid):
                    break  # the fault was its death, and came before the last thread was attached
                raise OSError(f"strace ended: {tracer.stderr.read() if tracer.stderr else ''}")
            if time.monotonic() > deadline:
                raise OSError(f"strace did not attach to {pid} in {timeout_s} s")
            time.sleep(0.01)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            tracer.send_signal(signal.SIGINT)
        try:
            tracer.wait(5)
        except subprocess.TimeoutExpired:
            tracer.kill()
            tracer.wait()
        if tracer.stderr is not None:
            tracer.stderr.close()


def is_running(pid: int) -> bool:
    """Whether it is there and no zombie. What ends while it is read gives ESRCH, afterwards ENOENT."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def all_traced(pid: int, tracer: int) -> bool:
    """Whether every thread is traced by now; not, if one ended meanwhile."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
        return all(f"TracerPid:\t{tracer}\n" in Path(f"/proc/{pid}/task/{t}/status").read_text() for t in threads)
    except (FileNotFoundError, ProcessLookupError):
        return False
