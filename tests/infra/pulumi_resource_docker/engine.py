"""What is done to a Docker engine: make, look at, change and remove. Knows nothing of Pulumi; values are plain.

A container that did not come up as asked is removed again before the error is raised, unless `keep_failed` says otherwise.
"""

from __future__ import annotations

import base64
import io
import tarfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from docker.types import Mount, Ulimit

from .rules import CONTAINER, NETWORK, nanoseconds

_MIB = 1 << 20
_POLL_S = 0.1
_DEFAULT_WAIT_S = 60.0


class Failure(Exception):
    """One sentence for the user. `kept`: id of a container that stays although it is not as asked."""

    def __init__(self, sentence: str, *, kept: str = "") -> None:
        super().__init__(sentence)
        self.kept = kept


class Engine:
    """One Docker engine. Calls block, from any thread; `cancelled` ends the wait for health."""

    def __init__(self, host: str | None, *, keep_failed: bool = False) -> None:
        self.host = host
        self.keep_failed = keep_failed
        self.cancelled = threading.Event()

    def create(self, kind: str, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        """Id and computed outputs. Raises: Failure."""
        if kind == CONTAINER:
            return self._create_container(values)
        name, labels = values["name"], _labels(values)
        with _spoken(f"{'network' if kind == NETWORK else 'volume'} {name}"), self._api() as api:
            if kind == NETWORK:
                made = api.create_network(
                    name, driver=values.get("driver", "bridge"), labels=labels, check_duplicate=True
                )
                return str(made["Id"]), {"scope": "local"}
            made = api.create_volume(name, driver=values.get("driver", "local"), labels=labels)
            return name, {"mountpoint": made["Mountpoint"]}

    def read(self, kind: str, identity: str) -> dict[str, Any] | None:
        """What the engine says of it; None when it is gone. Raises: Failure."""
        with _spoken(identity), self._api() as api:
            ask: Callable[[str], dict[str, Any]] = {CONTAINER: api.inspect_container, NETWORK: api.inspect_network}.get(
                kind, api.inspect_volume
            )
            try:
                return ask(identity)
            except NotFound:
                return None

    def update(self, identity: str, values: Mapping[str, Any]) -> None:
        """Change a container in place, and start one that must run. Raises: Failure."""
        with _spoken(f"container {values['name']}"), self._api() as api:
            api.update_container(
                identity,
                mem_limit=_memory(values, "memory"),
                memswap_limit=_memory(values, "memorySwap"),
                cpu_shares=_whole(values.get("cpuShares")),
                cpuset_cpus=values.get("cpuSet"),
                restart_policy=_restart(values),
            )
            if values.get("mustRun", True) and not api.inspect_container(identity)["State"]["Running"]:
                api.start(identity)

    def delete(self, kind: str, identity: str, values: Mapping[str, Any]) -> None:
        """Missing is success. Raises: Failure."""
        with _spoken(f"{values.get('name', identity)}"), self._api() as api:
            try:
                if kind == CONTAINER:
                    api.stop(identity, timeout=_whole(values.get("destroyGraceSeconds")) or 0)
                    api.remove_container(identity, v=values.get("removeVolumes", True), force=True)
                elif kind == NETWORK:
                    api.remove_network(identity)
                else:
                    api.remove_volume(identity)
            except NotFound:
                pass

    # ---- containers ------------------------------------------------------------------------------------------------
    def _create_container(self, values: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        name = values["name"]
        with self._api() as api:
            with _spoken(f"container {name}"):
                made: str = api.create_container(**_creation(api, values))["Id"]
            try:
                with _spoken(f"container {name}"):
                    self._connect(api, made, values)
                    _upload(api, made, values.get("uploads", []))
                    if values.get("start", True):
                        api.start(made)
                    if values.get("wait"):
                        self._wait_healthy(api, made, values)
                    return made, _outputs(api.inspect_container(made))
            except Failure as failure:
                if self.keep_failed:
                    raise Failure(str(failure), kept=made) from None
                api.remove_container(made, v=True, force=True)
                raise

    def _connect(self, api: docker.APIClient, identity: str, values: Mapping[str, Any]) -> None:
        networks = values.get("networksAdvanced", [])
        if networks:
            api.disconnect_container_from_network(identity, values.get("networkMode", "bridge"), force=True)
        for network in networks:
            api.connect_container_to_network(
                identity, network["name"], aliases=network.get("aliases"), ipv4_address=network.get("ipv4Address")
            )

    def _wait_healthy(self, api: docker.APIClient, identity: str, values: Mapping[str, Any]) -> None:
        limit_s = float(values.get("waitTimeout") or _DEFAULT_WAIT_S)
        until = time.monotonic() + limit_s
        while True:
            state = api.inspect_container(identity)["State"]
            health = state.get("Health", {})
            if health.get("Status") == "healthy":
                return
            if self.cancelled.wait(_POLL_S):
                raise Failure(f"container {values['name']}: cancelled while waiting for it to be healthy")
            if time.monotonic() > until:
                probes = health.get("Log") or []
                said = probes[-1]["Output"].strip().splitlines()[-1:] if probes else []
                last = f"; the last check said: {said[0]}" if said else ""
                raise Failure(
                    f"container {values['name']} is {health.get('Status', state['Status'])} after {limit_s:.0f} s{last}"
                )

    def _api(self) -> _Api:
        return _Api(self.host)


class _Api:
    """A connection for one call: the library's session is not made for several threads."""

    def __init__(self, host: str | None) -> None:
        self.host = host

    def __enter__(self) -> docker.APIClient:
        try:
            client = docker.DockerClient(base_url=self.host, timeout=120) if self.host else docker.from_env(timeout=120)
        except DockerException as error:
            raise Failure(f"no Docker engine answers: {error}") from None
        self.api: docker.APIClient = client.api
        return self.api

    def __exit__(self, *_: object) -> None:
        self.api.close()


class _spoken:
    """Turns the library's errors into a Failure that names the thing."""

    def __init__(self, thing: str) -> None:
        self.thing = thing

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, APIError):
            raise Failure(f"{self.thing}: {error.explanation or error}") from None
        if isinstance(error, (DockerException, OSError, ValueError)):
            raise Failure(f"{self.thing}: {error}") from None


def _creation(api: docker.APIClient, values: Mapping[str, Any]) -> dict[str, Any]:
    capabilities = values.get("capabilities", {})
    ports = values.get("ports", [])
    bindings: dict[str, list[tuple[str, int]]] = {}
    for port in ports:
        inner = f"{int(port['internal'])}/{port.get('protocol', 'tcp')}"
        bindings.setdefault(inner, []).append((port.get("ip", "0.0.0.0"), int(port["external"])))
    host = api.create_host_config(
        binds=[
            f"{volume.get('volumeName') or volume['hostPath']}:{volume['containerPath']}:{'ro' if volume.get('readOnly') else 'rw'}"
            for volume in values.get("volumes", [])
        ],
        mounts=[_mount(mount) for mount in values.get("mounts", [])],
        tmpfs=values.get("tmpfs"),
        port_bindings=bindings,
        cap_add=capabilities.get("adds"),
        cap_drop=capabilities.get("drops"),
        security_opt=values.get("securityOpts"),
        devices=[
            f"{device['hostPath']}:{device['containerPath']}:{device['permissions']}"
            for device in values.get("devices", [])
        ],
        ulimits=[
            Ulimit(name=limit["name"], soft=int(limit["soft"]), hard=int(limit["hard"]))
            for limit in values.get("ulimits", [])
        ],
        mem_limit=_memory(values, "memory"),
        memswap_limit=_memory(values, "memorySwap"),
        cpu_shares=_whole(values.get("cpuShares")),
        cpuset_cpus=values.get("cpuSet"),
        init=values.get("init"),
        restart_policy=_restart(values),
        read_only=values.get("readOnly", False),
        network_mode=values.get("networkMode", "bridge"),
    )
    health = values.get("healthcheck")
    return {
        "name": values["name"],
        "image": values["image"],
        "command": values.get("command"),
        "entrypoint": values.get("entrypoints"),
        "environment": values.get("envs"),
        "hostname": values.get("hostname"),
        "user": values.get("user"),
        "working_dir": values.get("workingDir"),
        "labels": _labels(values),
        "ports": [(int(port["internal"]), port.get("protocol", "tcp")) for port in ports],
        "stop_signal": values.get("stopSignal"),
        "stop_timeout": _whole(values.get("stopTimeout")),
        "healthcheck": None if health is None else _healthcheck(health),
        "host_config": host,
    }


def _healthcheck(health: Mapping[str, Any]) -> dict[str, Any]:
    times = {
        name: nanoseconds(health[key])
        for name, key in (("interval", "interval"), ("timeout", "timeout"), ("start_period", "startPeriod"))
        if key in health
    }
    return {"test": list(health["tests"]), "retries": int(health.get("retries", 3)), **times}


def _mount(mount: Mapping[str, Any]) -> Mount:
    return Mount(
        target=mount["target"],
        source=mount.get("source"),
        type=mount["type"],
        read_only=mount.get("readOnly", False),
        propagation=mount.get("bindOptions", {}).get("propagation"),
    )


def _upload(api: docker.APIClient, identity: str, uploads: list[Mapping[str, Any]]) -> None:
    for upload in uploads:
        data = base64.b64decode(upload["contentBase64"]) if "contentBase64" in upload else upload["content"].encode()
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            entry = tarfile.TarInfo(upload["file"].lstrip("/"))
            entry.size = len(data)
            entry.mode = int(upload.get("permissions", "0744" if upload.get("executable") else "0644"), 8)
            archive.addfile(entry, io.BytesIO(data))
        api.put_archive(identity, "/", packed.getvalue())


def _outputs(found: Mapping[str, Any]) -> dict[str, Any]:
    networks = found["NetworkSettings"]["Networks"]
    return {
        "networkDatas": [
            {"networkName": name, "ipAddress": network["IPAddress"], "gateway": network["Gateway"]}
            for name, network in sorted(networks.items())
        ]
    }


def _labels(values: Mapping[str, Any]) -> dict[str, str]:
    return {label["label"]: label["value"] for label in values.get("labels", [])}


def _restart(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"Name": values.get("restart", "no"), "MaximumRetryCount": _whole(values.get("maxRetryCount")) or 0}


def _memory(values: Mapping[str, Any], key: str) -> int | None:
    amount = _whole(values.get(key))
    return amount * _MIB if amount else None


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
