"""What holds for every call: no panic crosses, errors keep their text, waits can be interrupted, forks are refused."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mooseng_py import native
from mooseng_py.errors import NamespaceError, StaleError, make_error
from mooseng_py.native._boundary import check, ffi, lib, readable


def test_a_panic_does_not_cross_the_boundary() -> None:
    with pytest.raises(NamespaceError, match="panicked: asked to by mng_test_panic") as caught:
        check(lib.mng_test_panic())
    assert caught.value.errno == errno.ENOTRECOVERABLE
    assert native.crc32c(b"123456789") == 0xE306_9283


def test_each_thread_has_its_own_last_error() -> None:
    assert lib.mng_close(1 << 40, 0) == -errno.EBADF
    other = threading.Thread(target=lib.mng_test_panic)
    other.start()
    other.join()
    with pytest.raises(OSError, match="closed or was never given") as caught:
        check(-errno.EBADF)
    assert caught.value.errno == errno.EBADF


def test_a_null_span_with_a_length_is_refused() -> None:
    assert lib.mng_crc32c(ffi.NULL, 5) == -errno.EFAULT
    assert lib.mng_crc32c(ffi.NULL, 0) == 0


def test_a_short_target_gets_the_beginning_of_the_error() -> None:
    lib.mng_test_panic()
    size = lib.mng_last_error(ffi.NULL, 0)
    target = ffi.new("uint8_t[]", size + 8)
    assert lib.mng_last_error(target, 9) == size
    assert bytes(ffi.buffer(target, 10)) == b'{"errno":\0'
    assert lib.mng_last_error(target, size + 8) == size
    assert json.loads(bytes(ffi.buffer(target, size)))["errno"] == errno.ENOTRECOVERABLE


def test_the_abi_tells_all_it_knows_whatever_the_room() -> None:
    facts = ffi.new("uint32_t[]", [7] * 5)
    assert lib.mng_abi(facts, 1) == 3
    assert list(facts) == [lib.MNG_ABI_VERSION, 7, 7, 7, 7]
    assert lib.mng_abi(facts, 5) == 3
    assert list(facts) == [lib.MNG_ABI_VERSION, ffi.sizeof("MngReply"), ffi.sizeof("void *"), 7, 7]


def test_a_long_wait_returns_in_slices() -> None:
    start = time.monotonic()
    assert lib.mng_test_sleep(900) == -errno.EINPROGRESS
    assert time.monotonic() - start < 0.8
    assert check(-errno.EINPROGRESS) == 900


def test_nothing_to_wait_for_is_an_error() -> None:
    with pytest.raises(NamespaceError, match="waits for no operation"):
        check(lib.mng_wait())


def test_a_wait_given_up_does_not_disturb_the_next_call() -> None:
    assert lib.mng_test_sleep(60_000) == -errno.EINPROGRESS
    assert check(lib.mng_test_sleep(1)) == 1


def test_ctrl_c_ends_a_wait() -> None:
    timer = threading.Timer(0.2, signal.raise_signal, [signal.SIGINT])
    # A shell that runs its commands in the background starts them with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            check(lib.mng_test_sleep(30_000))
        timer.join()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_run_while_one_waits() -> None:
    counted = []
    waiter = threading.Thread(target=lambda: counted.append(check(lib.mng_test_sleep(400))))
    waiter.start()
    start = time.monotonic()
    check(lib.mng_test_sleep(10))
    assert time.monotonic() - start < 0.3
    waiter.join()
    assert counted == [400]


def _call_after_fork(results: "multiprocessing.SimpleQueue[int]") -> None:
    results.put(lib.mng_crc32c(readable(b"x"), 1))
    results.put(lib.mng_test_sleep(1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_calls_after_a_fork_are_refused() -> None:
    check(lib.mng_test_sleep(1))
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_call_after_fork, args=(results,))
    child.start()
    assert [results.get(), results.get()] == [-errno.ECHILD] * 2
    child.join()
    assert child.exitcode == 0


def test_the_refusal_after_a_fork_says_what_to_do() -> None:
    script = (
        "import os, mooseng_py.native as native\n"
        "if os.fork() == 0:\n"
        "    try:\n"
        "        native.crc32c(b'x')\n"
        "    except ChildProcessError as error:\n"
        "        print(error)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "start workers with the spawn method" in done.stdout


def test_the_log_starts_once_and_names_a_wrong_level() -> None:
    script = (
        "import mooseng_py.native as native\n"
        "for level in ('no,such=level=x', 'info', 'info'):\n"
        "    try:\n"
        "        native.start_log('json', level)\n"
        "    except OSError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert "log configuration is refused" in first
    assert "started before" in second


def test_an_error_is_of_its_branch_and_of_its_errno(tmp_path: Path) -> None:
    error = make_error(errno.ENOENT, 0, "no such name", "/x")
    assert isinstance(error, NamespaceError)
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.strerror, error.filename) == (errno.ENOENT, "no such name", "/x")
    stale = make_error(errno.ESTALE, 1, "old", leader="a:1", failed_servers=[3])
    assert type(stale) is StaleError
    assert (stale.leader, stale.failed_servers) == ("a:1", (3,))


def test_an_error_survives_pickling_whole() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(make_error(errno.EEXIST, 0, "there", "/x", failed_servers=[1])))
    assert isinstance(error, FileExistsError)
    assert isinstance(error, NamespaceError)
    assert (error.filename, error.failed_servers) == ("/x", (1,))


def test_an_unknown_role_and_a_wrong_setting_are_named() -> None:
    span = readable(b"{}")
    assert lib.mng_start(99, span, len(span)) == -errno.EINVAL
    with pytest.raises(NamespaceError, match="unknown field `color`"):
        native.Node("master", {"color": "red"})
    with pytest.raises(NamespaceError, match="allow_other must be true or false"):
        native.Node("mount", {"masters": ["127.0.0.1:1"], "mount_point": os.devnull, "allow_other": 3})
