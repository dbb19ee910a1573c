"""What a stack will consist of, decided from its configuration alone: names, places, addresses, configuration files.

Pure: no pulumi, no clock, no files. The components turn it into resources and compute nothing of this again.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from mooseng_py.config import MODELS, ConfigError, check_text
from mooseng_py.topology import ClusterSpec, NodeSpec, dashboard_node, profile, render_config, render_prometheus
from mooseng_py.topology.spec import PortKind

from .config import KEY, ConfigurationError, Limits, StackConfig

# What the node image provides; see infra/docker/README.md.
CONFIG_FILE = "/run/mooseng/config.toml"
DATA_DIRECTORY = "/var/lib/mooseng"
MOUNTS_DIRECTORY = "/mnt/mooseng"

LOOPBACK = "127.0.0.1"
# The name of the one engine of a stack without hosts.
HERE = ""

# Rendered keys that a stack may set all the same; the others follow from profile, places and volumes.
_FREE = {"copies", "min_copies", "log_format"}
_STACK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}")


@dataclass(frozen=True)
class Service:
    """A port that is published for people: Prometheus, Grafana."""

    name: str
    host: str
    published: str
    inner_port: int
    port: int


@dataclass(frozen=True)
class Plan:
    """One stack's cluster. Made by `plan`."""

    stack: str
    cluster_id: str
    config: StackConfig
    spec: ClusterSpec

    # ---- places ----------------------------------------------------------------------------------------------------
    @property
    def hosts(self) -> tuple[str, ...]:
        """The engines that get a network and the image, in a stable order."""
        used = {self.host(node) for node in self.spec.nodes}
        if self.config.prometheus.enabled:
            used.add(self.config.prometheus.host)
        if self.dashboard is not None:
            used.add(self.host(self.dashboard))
        return tuple(sorted(used))

    def host(self, node: NodeSpec) -> str:
        if node.role == "dashboard":
            return self.config.dashboard.host
        place = self.config.nodes.get(node.name)
        return HERE if place is None else place.host

    @property
    def spread(self) -> bool:
        """More than one engine: containers find each other at the hosts' addresses instead of by name."""
        return len(self.hosts) > 1

    def publish_address(self, host: str) -> str:
        """Where an engine publishes ports."""
        return LOOPBACK if host == HERE else self.config.hosts[host].address

    # ---- names and addresses ---------------------------------------------------------------------------------------
    def container_name(self, name: str) -> str:
        return f"{self.stack}-{name}"

    def inner_address(self, node: NodeSpec, kind: PortKind) -> str:
        """Where other containers reach this port of a node."""
        host = self.publish_address(self.host(node)) if self.spread else node.hostname
        return f"{host}:{dict(node.ports.items())[kind]}"

    def published(self, node: NodeSpec) -> dict[PortKind, str]:
        """Where people and programs outside the containers reach a node."""
        return {kind: f"{self.publish_address(self.host(node))}:{port}" for kind, port in sorted(node.ports.items())}

    def volumes(self, node: NodeSpec) -> dict[str, str]:
        """Volume name to the directory that the daemon keeps its data in."""
        return {
            f"{self.container_name(node.name)}-{directory}": f"{DATA_DIRECTORY}/{directory}"
            for directory in node.data_directories
        }

    def mount(self, node: NodeSpec) -> str | None:
        """Where a client's mount appears on its host."""
        return f"{self.config.mounts}/{node.name}" if self.config.mounts and node.role == "client" else None

    def limits(self, node: NodeSpec) -> Limits:
        return self.config.limits.get(node.role, Limits())

    # ---- files -----------------------------------------------------------------------------------------------------
    def configuration(self, node: NodeSpec) -> str:
        """The node's configuration file."""
        return self._rendered(node, self._settings(node))

    def _settings(self, node: NodeSpec) -> Mapping[str, str | int | bool | list[str]]:
        given = self.config.settings
        return {**given.get(node.command, {}), **given.get(node.name, {})}

    def _rendered(self, node: NodeSpec, settings: Mapping[str, str | int | bool | list[str]]) -> str:
        return render_config(
            self.spec,
            node,
            resolve=lambda other: self.inner_address(other, "frames"),
            resolve_http=lambda other: self.inner_address(other, "http"),
            directory=DATA_DIRECTORY,
            cluster_id=self.cluster_id,
            listen_host="0.0.0.0",
            mount_point=f"{MOUNTS_DIRECTORY}/{node.name}" if node.role == "client" else "",
            settings=settings,
        )

    def prometheus_file(self, rule_files: list[str]) -> str:
        """The text of prometheus.yml."""
        return render_prometheus(
            self.spec,
            resolve=lambda node: self.inner_address(node, "http"),
            cluster_id=self.cluster_id,
            scrape_interval_s=self.config.prometheus.scrape_interval_s,
            rule_files=rule_files,
        )

    # ---- services --------------------------------------------------------------------------------------------------
    @property
    def dashboard(self) -> NodeSpec | None:
        """Made like a node, from the nodes' image, but none of the cluster's."""
        config = self.config.dashboard
        return dashboard_node(config.port + self.config.port_offset) if config.enabled else None

    @property
    def prometheus(self) -> Service | None:
        config = self.config.prometheus
        return self._service("prometheus", 9090, config.port) if config.enabled else None

    @property
    def grafana(self) -> Service | None:
        config = self.config.grafana
        return self._service("grafana", 3000, config.port) if config.enabled else None

    def _service(self, name: str, inner_port: int, port: int) -> Service:
        host = self.config.prometheus.host
        moved = port + self.config.port_offset
        return Service(name, host, f"{self.publish_address(host)}:{moved}", inner_port, moved)

    def left_out(self) -> list[str]:
        """What this stack does without, for the one who runs `up`."""
        services = {
            "Prometheus": self.config.prometheus.enabled,
            "Grafana": self.config.grafana.enabled,
            "Dashboard": self.config.dashboard.enabled,
        }
        return [
            f"{name} is left out by this stack's configuration; {KEY}.{name.lower()}.enabled: true adds it"
            for name, enabled in services.items()
            if not enabled
        ]

    # ---- checks ----------------------------------------------------------------------------------------------------
    def check(self) -> None:
        """Raises: ConfigurationError for what contradicts itself."""
        self._check_places()
        self._check_ports()
        self._check_settings()
        if self.config.grafana.enabled and not self.config.prometheus.enabled:
            raise ConfigurationError(
                f"{KEY}.grafana.enabled is true, but there is no Prometheus to show; set {KEY}.prometheus.enabled as well"
            )

    def _check_places(self) -> None:
        config, names = self.config, [node.name for node in self.spec.nodes]
        for name, place in config.nodes.items():
            if name not in names:
                raise ConfigurationError(
                    f"{KEY}.nodes.{name} is no node of this profile; its nodes: {', '.join(names)}"
                )
            _require_host(place.host, config, f"{KEY}.nodes.{name}.host")
        if config.hosts and (missing := [name for name in names if name not in config.nodes]):
            raise ConfigurationError(
                f"{KEY}.hosts is given, so each node needs its host: {KEY}.nodes.{missing[0]}.host is missing"
            )
        for name, enabled, host in (
            ("prometheus", config.prometheus.enabled, config.prometheus.host),
            ("dashboard", config.dashboard.enabled, config.dashboard.host),
        ):
            if host or (config.hosts and enabled):
                _require_host(host, config, f"{KEY}.{name}.host")
        if self.spread:
            for name in self.hosts:
                if ipaddress.ip_address(config.hosts[name].address).is_loopback:
                    raise ConfigurationError(
                        f"{KEY}.hosts.{name}.address is {config.hosts[name].address}, which other hosts cannot reach; give its address in your network"
                    )
            if config.image.mode == "build":
                raise ConfigurationError(
                    f"{KEY}.image.mode is build, but the image would lie on one of {len(self.hosts)} hosts; push it to a registry and use pull"
                )

    def _check_ports(self) -> None:
        taken = {(self.host(node), port): node.name for node in self.spec.nodes for _, port in node.ports.items()}
        services = [(made.name, made.host, made.port) for made in (self.prometheus, self.grafana) if made is not None]
        if (dashboard := self.dashboard) is not None:
            services.append((dashboard.name, self.host(dashboard), dashboard.ports.http))
        for name, host, port in services:
            if port > 65535:
                raise ConfigurationError(f"{KEY}.{name}.port moved by port_offset is {port}, above 65535")
            if (owner := taken.setdefault((host, port), name)) != name:
                raise ConfigurationError(f"{KEY}.{name}.port {port} is {owner}'s as well; give one of them another")

    def _check_settings(self) -> None:
        known = {node.name for node in self.spec.nodes} | set(MODELS)
        for name in self.config.settings:
            if name not in known:
                raise ConfigurationError(
                    f"{KEY}.settings.{name} is no node or daemon of this stack; allowed: {', '.join(sorted(known))}"
                )
        for node in (*self.spec.nodes, *filter(None, [self.dashboard])):
            decided = tomllib.loads(self._rendered(node, {})).keys() - _FREE
            if clash := sorted(decided & self._settings(node).keys()):
                raise ConfigurationError(
                    f"{KEY}.settings sets {clash[0]!r} of {node.name}, which the stack itself decides; leave it out"
                )
            try:
                check_text(MODELS[node.command], self.configuration(node), f"{KEY}.settings ({node.name})")
            except ConfigError as error:
                raise ConfigurationError(str(error)) from None


def plan(stack: str, project: str, config: StackConfig) -> Plan:
    """The cluster of a stack. Raises: ConfigurationError."""
    if not _STACK_NAME.fullmatch(stack):
        raise ConfigurationError(
            f"the stack is called {stack!r}, but containers and volumes bear its name: use up to 41 letters, digits, - and _"
        )
    try:
        spec = profile(config.profile, port_offset=config.port_offset, disks=config.disks)
    except ValueError as error:
        raise ConfigurationError(f"{KEY}: {error}") from None
    made = Plan(stack, config.cluster_id or f"{project}-{stack}", config, spec)
    made.check()
    return made


def digest(*texts: str) -> str:
    """A short hash of configuration texts. Never of secrets: a label shows it."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _require_host(name: str, config: StackConfig, key: str) -> None:
    if name not in config.hosts:
        known = ", ".join(config.hosts) or "none"
        raise ConfigurationError(f"{key} is {name!r}, which {KEY}.hosts does not list; it lists {known}")
