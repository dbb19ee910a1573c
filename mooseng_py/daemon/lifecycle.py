"""The life of a daemon: configure, serve health, start the native node (waiting for peers), run, stop on a signal.

The main thread only waits for signals. What each role adds comes in as a `Role`; nothing here knows names or chunks.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from mooseng_py.config import ConfigError, DaemonConfig
from mooseng_py.config.native import node_settings
from mooseng_py.observe.http import HealthServer, Pages
from mooseng_py.observe.logs import Log
from mooseng_py.observe.probe import Answer

from .arguments import parse

if TYPE_CHECKING:
    from mooseng_py.native import NativeObject, NodeRole

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Sent by a thread of its own to the main one: stop cleanly, then run again from the start in the same process.
_ANEW = signal.SIGUSR1
_WATCH_EVERY_S = 1.0
_BACKOFF_FIRST_S = 0.1
_BACKOFF_LAST_S = 2.0
_START_PATIENCE_S = 2.0
# Of the errors that "retry" may mend, those that others mend by coming up. A taken port or a full disk is ours.
_PEERS_MISSING = {
    errno.EIO,
    errno.EAGAIN,
    errno.ETIMEDOUT,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.EPIPE,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.EHOSTDOWN,
}

ConfigT = TypeVar("ConfigT", bound=DaemonConfig)


class Part(Protocol):
    """Something that runs beside the native node and is stopped before it."""

    def stop(self) -> None: ...


@dataclass(frozen=True)
class Role(Generic[ConfigT]):
    """What makes a master a master. `readiness` judges the native status; `parts` start once the node runs.

    `stop_timeout_s`: a clean stop that takes longer is cut off. `prepare` runs before the node starts. `serve` puts the
    pages on `http_listen` (Raises: OSError), before everything else and until everything else has stopped. `start_anew`
    judges the native status: why the daemon must begin again from the start, or nothing. `failed` too: why it cannot go
    on at all; the daemon is not alive then, and ends with exit code 1 for whoever supervises it. `in_the_way`: why it must
    not stop now; a signal to stop is refused with that sentence.
    """

    model: type[ConfigT]
    start: Callable[[ConfigT], NativeObject]
    readiness: Callable[[ConfigT, dict[str, Any]], Answer]
    stop_timeout_s: float
    prepare: Callable[[ConfigT, Log], None] = field(default=lambda config, log: None)
    parts: Callable[[ConfigT, NativeObject, Log], list[Part]] = field(default=lambda config, node, log: [])
    serve: Callable[[ConfigT, Pages, Log], Part] = field(
        default=lambda config, pages, log: HealthServer(config.http_listen, pages)
    )
    start_anew: Callable[[dict[str, Any]], str] = field(default=lambda status: "")
    failed: Callable[[dict[str, Any]], str] = field(default=lambda status: "")
    in_the_way: Callable[[ConfigT], str] = field(default=lambda config: "")


def start_node(config: DaemonConfig, besides: Mapping[str, Any] | None = None) -> NativeObject:
    """The native node of this role; `besides`: what its settings do not say. Raises: MooseError."""
    from mooseng_py import native

    return native.Node(cast("NodeRole", config.role), node_settings(config) | dict(besides or {}))


def run(role: Role[ConfigT], arguments: Sequence[str]) -> int:
    """Run until SIGTERM or SIGINT. 0 after a clean stop, 1 when it could not start or stop, 2 for a wrong configuration."""
    # Blocked before any thread exists, so that every thread inherits it and only the main thread takes signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, (*_SIGNALS, _ANEW))
    try:
        config = parse(role.model, arguments, os.environ)
    except ConfigError as error:
        sys.stderr.write(f"mooseng {role.model.role}: {error}\n")
        return ConfigError.exit_code
    return _Daemon(role, config).run()


def native_levels(level: str) -> str:
    """The rules of the native log. openraft tells every step of every election at info, every missed heartbeat at warn."""
    return level if level in ("debug", "trace") else f"{level},openraft=error"


class _Daemon(Generic[ConfigT]):
    def __init__(self, role: Role[ConfigT], config: ConfigT) -> None:
        self.role = role
        self.config = config
        self.log = Log(f"mooseng_py.{role.model.role}", config.log_format, config.log_level)
        self.node: NativeObject | None = None
        self.parts: list[Part] = []
        self.waiting_for = "starting; a client looks for the leading master first"
        self.failure: str | None = None
        self.stopping = threading.Event()

    # ---- life ------------------------------------------------------------------------------------------------------
    def run(self) -> int:
        try:
            http = self.role.serve(self.config, Pages(self.live, self.ready, self.metrics), self.log)
        except OSError as error:
            self.log.error(
                f"http_listen = {self.config.http_listen} cannot be used: {error.strerror}; free it or choose another"
            )
            return 1
        starter = threading.Thread(target=self._start, name="start", daemon=True)
        starter.start()
        received = self._told_to_stop()
        self.stopping.set()
        threading.Thread(target=self._cut_off, name="cut-off", daemon=True).start()
        if self.failure is None:
            self.log.info("stopping")
        starter.join(_START_PATIENCE_S)
        if starter.is_alive():
            # Still looking for its peers: it has nothing to flush, and a call into the library cannot be taken back.
            self.log.info("stopped before it had started")
            os._exit(0)
        clean = self._stop()
        http.stop()
        if self.failure is not None:
            self.log.error(self.failure)
            return 1
        self.log.info("stopped")
        if received == _ANEW and not signal.sigpending() & set(_SIGNALS):
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        return 0 if clean else 1

    def _told_to_stop(self) -> int:
        """Wait for a signal that ends the daemon, or has it begin anew."""
        while True:
            received = signal.sigwait((*_SIGNALS, _ANEW))
            must = self.node is None or self.failure is not None or received == _ANEW
            if must or not (reason := self.role.in_the_way(self.config)):
                return received
            self.log.error(f"not stopped: {reason}")

    def _start(self) -> None:
        """Start the native node, again and again while its peers are not there yet."""
        try:
            self.role.prepare(self.config, self.log)
            self._start_node()
            if self.node is not None:
                self.parts = self.role.parts(self.config, self.node, self.log)
                threading.Thread(target=self._watch, args=(self.node,), name="watch", daemon=True).start()
        except Exception as error:  # noqa: BLE001  # whatever it is, the daemon ends with a sentence instead of half a node
            self._fail(_sentence(error))

    def _fail(self, reason: str) -> None:
        self.failure = reason
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _watch(self, node: NativeObject) -> None:
        """End, or begin again, when the node says that it cannot go on as it is."""
        while not self.stopping.wait(_WATCH_EVERY_S):
            try:
                status = node.status()
            except ValueError:
                return  # closed meanwhile
            if reason := self.role.failed(status):
                self._fail(reason)
                return
            if reason := self.role.start_anew(status):
                self.log.warn("starting anew", reason=reason)
                signal.pthread_kill(threading.main_thread().ident or 0, _ANEW)
                return

    def _start_node(self) -> None:
        from mooseng_py import native
        from mooseng_py.errors import UnavailableError

        native.start_log(self.config.log_format, native_levels(self.config.log_level))
        pause_s = _BACKOFF_FIRST_S
        while not self.stopping.is_set():
            try:
                self.node = self.role.start(self.config)
                return
            except UnavailableError as error:
                if error.errno not in _PEERS_MISSING:
                    raise
                self.waiting_for = f"waiting: {error.strerror or error}"
                self.log.warn("not started yet, trying again", reason=error.strerror)
            self.stopping.wait(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(pause_s * 2, _BACKOFF_LAST_S)

    def _stop(self) -> bool:
        """Parts first, the node last; everything is tried."""
        steps: list[tuple[str, Callable[[], None]]] = [
            (type(part).__name__, part.stop) for part in reversed(self.parts)
        ]
        if self.node is not None:
            steps.append(("native node", self.node.close))
        clean = True
        for name, step in steps:
            try:
                step()
            except Exception as error:  # noqa: BLE001  # one part that fails must not keep the others running
                clean = False
                self.log.error("did not stop cleanly", part=name, reason=_sentence(error))
        return clean

    def _cut_off(self) -> None:
        time.sleep(self.role.stop_timeout_s)
        self.log.error("the clean stop took too long and was cut off", limit_s=self.role.stop_timeout_s)
        os._exit(1)

    # ---- what it says of itself ------------------------------------------------------------------------------------
    def live(self) -> Answer:
        """Alive while the process can answer and the native node, once started, tells of no failure that stays."""
        failure = self.role.failed(self.node.status()) if self.node is not None else ""
        return Answer(not failure, failure or "alive", self._identity())

    def ready(self) -> Answer:
        if self.stopping.is_set():
            return Answer(False, self.failure or "stopping", self._identity())
        node = self.node
        if node is None:
            return Answer(False, self.waiting_for, self._identity())
        answer = self.role.readiness(self.config, node.status())
        return Answer(answer.good, answer.reason, {**answer.details, **self._identity()})

    def metrics(self, reader: str = "") -> bytes:
        """The page of this moment for `reader`; the library behind it is loaded at the first request."""
        from mooseng_py.observe.metrics import Page

        return Page(lambda: self._samples(reader)).render()

    def _samples(self, reader: str) -> list[tuple[str, Sequence[tuple[str, str]], float]]:
        import mooseng_py

        identity = [("role", self.config.role), ("name", self._name()), ("version", mooseng_py.__version__)]
        samples: list[tuple[str, Sequence[tuple[str, str]], float]] = [
            ("mooseng_node_info", identity, 1.0),
            ("mooseng_node_ready", [], float(self.ready().good)),
        ]
        for part in self.parts:
            samples += getattr(part, "samples", list)()
        if self.node is not None:
            samples += [(name, list(labels.items()), value) for name, labels, value in self.node.metrics(reader)]
        return samples

    def _identity(self) -> dict[str, object]:
        return {"role": self.config.role, "name": self._name(), "pid": os.getpid()}

    def _name(self) -> str:
        return self.config.name or self.config.role


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return (
        f"{type(error).__name__}: {error}"
        if not str(error) or isinstance(error, (KeyError, AssertionError))
        else str(error)
    )
