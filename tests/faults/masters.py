"""Three masters and nothing else, started by hand: enough for names and small files, and quick to break and mend."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mooseng_py.demo.harness import free_port_offset, wait_until
from mooseng_py.native import method
from mooseng_py.observe.probe import Answer, probe
from mooseng_py.proto import cluster_pb2
from mooseng_py.sdk import FileSystem, connect
from tests.faults.frames import Raw

NAMES = (1, 2, 3)
TRANSFER = method("Transfer")


class Masters:
    """`settings` go into every master's file; `seen_by` says at which port master A reaches master B (for proxies)."""

    def __init__(
        self,
        base: Path,
        settings: Mapping[str, object] | None = None,
        *,
        data: Mapping[int, Path] | None = None,
        cluster_id: str = "faults",
    ) -> None:
        self.base = base
        self.settings = dict(settings or {})
        self.data = dict(data or {i: base / f"master-{i}" for i in NAMES})
        self.cluster_id = cluster_id
        self.offset = free_port_offset()
        self.seen_by: dict[tuple[int, int], int] = {}
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        base.mkdir(parents=True, exist_ok=True)

    # ---- addresses ------------------------------------------------------------------------------------------------
    def port(self, index: int) -> int:
        return 9420 + index + self.offset

    def address(self, index: int) -> str:
        return f"127.0.0.1:{self.port(index)}"

    def url(self, only: int | None = None) -> str:
        chosen = NAMES if only is None else (only,)
        return f"mooseng://{','.join(self.address(i) for i in chosen)}/"

    def log(self, index: int) -> str:
        path = self.base / f"log-{index}"
        return path.read_text(errors="replace") if path.exists() else ""

    # ---- processes ------------------------------------------------------------------------------------------------
    def start(self, *which: int, wait: bool = True, under: Sequence[str] = ()) -> "Masters":
        """`under`: a command that runs each of them and keeps its process id, as `strace -D` does."""
        for index in which or NAMES:
            self.data[index].mkdir(parents=True, exist_ok=True)
            config = self.base / f"master-{index}.toml"
            config.write_text(self._config(index))
            with (self.base / f"log-{index}").open("ab") as output:
                self.processes[index] = subprocess.Popen(
                    [*under, sys.executable, "-m", "mooseng_py.cli.main", "master", "--config", str(config)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )
        if wait:
            for index in which or NAMES:
                wait_until(f"master {index} ready", partial(self.ready, index), timeout_s=60)
        return self

    def pid(self, index: int) -> int:
        return self.processes[index].pid

    def signal(self, number: signal.Signals, *which: int) -> None:
        for index in which or tuple(self.processes):
            self.processes[index].send_signal(number)

    def kill(self, *which: int) -> None:
        """kill -9."""
        for index in which or tuple(self.processes):
            process = self.processes.pop(index)
            process.kill()
            process.wait()

    def stop(self, *which: int) -> dict[int, int]:
        """SIGTERM; the exit codes. A paused one is woken first, a stubborn one killed."""
        chosen = {index: self.processes.pop(index) for index in which or tuple(self.processes)}
        for process in chosen.values():
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
        for process in chosen.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return {index: process.returncode for index, process in chosen.items()}

    def ended(self, index: int, timeout_s: float = 20) -> int:
        """Wait until it has ended by itself; its exit code."""
        return self.processes.pop(index).wait(timeout_s)

    def __enter__(self) -> "Masters":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        if self.processes:
            self.kill()

    # ---- what they say ----------------------------------------------------------------------------------------------
    def health(self, index: int) -> Answer:
        """Its readiness, one sentence and what it told, also of a master that is not ready."""
        return probe(f"127.0.0.1:{9440 + index + self.offset}")

    def ready(self, index: int) -> bool:
        assert self.processes[index].poll() is None, f"master {index} ended: {self.log(index)[-2000:]}"
        return self.health(index).good

    def view(self, index: int) -> dict[str, Any]:
        """The cluster as this master sees it. Raises: OSError."""
        done = subprocess.run(
            [sys.executable, "-m", "mooseng_py.cli.main", "status", "--masters", self.address(index), "--json"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise OSError(done.stderr.strip())
        return dict(json.loads(done.stdout))

    def leader(self, other_than: int = 0, timeout_s: float = 30) -> int:
        """The one that says it leads and serves."""

        def found() -> int:
            for index in tuple(self.processes):
                answer = self.health(index)
                if index != other_than and answer.good and answer.details.get("is_leader"):
                    return index
            return 0

        return wait_until("a leader", found, timeout_s)

    def lead(self, index: int) -> None:
        """Have this one lead."""

        def asked() -> bool:
            leader = self.leader()
            if leader != index:
                with Raw(self.address(leader)) as raw:
                    raw.ask(TRANSFER, cluster_pb2.TransferLeader(target=index))
            return self.leader() == index

        wait_until(f"master {index} leads", asked)

    def voters(self) -> None:
        """Wait until all three vote."""

        def all_vote() -> bool:
            roles = [str(m["role"]) for m in self.view(self.leader())["masters"]]
            return sorted(roles) == ["follower", "follower", "leader"]

        wait_until("three voters", all_vote)

    def cpu_seconds(self, index: int) -> float:
        fields = Path(f"/proc/{self.pid(index)}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @contextlib.contextmanager
    def client(self, *, deadline_ms: int = 60_000, url: str | None = None) -> Iterator[FileSystem]:
        with connect(url or self.url(), deadline_ms=deadline_ms) as filesystem:
            yield filesystem

    def _config(self, index: int) -> str:
        peers = {i: self.seen_by.get((index, i), self.port(i)) for i in NAMES}
        known = {
            "cluster_id": self.cluster_id,
            "node_id": index,
            "listen": self.address(index),
            "grpc_listen": f"127.0.0.1:{9430 + index + self.offset}",
            "http_listen": f"127.0.0.1:{9440 + index + self.offset}",
            "data_dir": str(self.data[index]),
            "copies": 1,
            "min_copies": 1,
        } | self.settings
        lines = ['role = "master"'] + [f"{key} = {json.dumps(value)}" for key, value in known.items()]
        table = ", ".join(f'{i} = "127.0.0.1:{port}"' for i, port in peers.items())
        return "\n".join([*lines, f"peers = {{ {table} }}"]) + "\n"
