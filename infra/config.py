"""The configuration of a stack: one frozen value, read from one object. Knows nothing of pulumi.

What one key means stands in its description, from which the table in docs/deploy.md is made.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mooseng_py.topology import DASHBOARD_PORT, PROFILES

KEY = "mooseng:cluster"
Setting = str | int | bool | list[str]
Role = Literal["master", "chunkserver", "client", "dashboard"]


class ConfigurationError(Exception):
    """A stack's configuration is wrong: one sentence that names the key and what is allowed."""


def _profile(value: str) -> str:
    if value not in PROFILES:
        raise ValueError("one of " + ", ".join(repr(name) for name in PROFILES))
    return value


def _absolute(value: str) -> str:
    if value and not re.fullmatch(r"/[A-Za-z0-9._/-]*[A-Za-z0-9._-]", value):
        raise ValueError("an absolute path on the Docker host, or empty")
    return value


def _engine(value: str) -> str:
    if not re.fullmatch(r"(ssh|tcp|unix)://\S+", value):
        raise ValueError("ssh://USER@HOST, tcp://HOST:PORT or unix:///PATH")
    return value


def _ipv4(value: str) -> str:
    try:
        return str(ipaddress.IPv4Address(value))
    except ValueError:
        raise ValueError("an IPv4 address, for instance 10.0.0.11") from None


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodeImageConfig(_Part):
    """The image of the nodes."""

    mode: Literal["build", "existing", "pull"] = Field(
        default="build",
        description="build: from this checkout, by the engine. existing: the engine has it, nothing is fetched. pull: from a registry.",
    )
    name: str = Field(
        default="mooseng:local",
        min_length=1,
        description="Tag, digest or id. With existing, give the id that `make image` prints: a tag does not show that its image changed.",
    )


class Prometheus(_Part):
    """Prometheus, which scrapes every node."""

    enabled: bool = Field(default=False, description="Run Prometheus.")
    mode: Literal["existing", "pull"] = Field(default="pull", description="As image.mode; nothing is built.")
    image: str = Field(default="prom/prometheus:v3.5.0", min_length=1, description="Its image.")
    port: int = Field(default=9090, ge=1, le=65535, description="Published port, moved by port_offset.")
    scrape_interval_s: int = Field(default=5, ge=1, le=300, description="Between two scrapes of a node.")
    retention: str = Field(default="15d", pattern=r"^[1-9][0-9]*[hdwy]$", description="How long samples are kept.")
    host: str = Field(default="", description="Of `hosts`: where it runs. Needed where there are hosts.")


class Grafana(_Part):
    """Grafana, with its data source and dashboards provisioned."""

    enabled: bool = Field(
        default=False,
        description="Run Grafana, beside Prometheus. Needs the secret `mooseng:grafanaPassword`.",
    )
    mode: Literal["existing", "pull"] = Field(default="pull", description="As image.mode; nothing is built.")
    image: str = Field(default="grafana/grafana:12.1.1", min_length=1, description="Its image.")
    port: int = Field(default=3000, ge=1, le=65535, description="Published port, moved by port_offset.")


class Dashboard(_Part):
    """The web dashboard, from the image of the nodes."""

    enabled: bool = Field(default=False, description="Run the web dashboard.")
    port: int = Field(default=DASHBOARD_PORT, ge=1, le=65535, description="Its port, moved by port_offset.")
    host: str = Field(default="", description="Of `hosts`: where it runs. Needed where there are hosts.")


class Health(_Part):
    """How Docker watches the containers, and how long `up` waits for them."""

    interval_s: int = Field(
        default=5, ge=1, le=300, description="Between two checks. Too small: load; too large: `up` is slow."
    )
    timeout_s: int = Field(
        default=10,
        ge=1,
        le=300,
        description="A check that takes longer has failed. Too small: a busy machine fails it.",
    )
    retries: int = Field(
        default=3, ge=1, le=100, description="Failed checks in a row until a node counts as unhealthy."
    )
    start_period_s: int = Field(default=30, ge=1, le=3600, description="Failures this early do not count.")
    wait_timeout_s: int = Field(
        default=120, ge=5, le=3600, description="`up` fails when a new container is not healthy by then."
    )


class Limits(_Part):
    """What one container may take. 0: no limit."""

    memory_mb: int = Field(
        default=0, ge=0, le=1 << 24, description="Memory, without swap. Too small: the node is killed."
    )
    cpu_shares: int = Field(
        default=0, ge=0, le=262_144, description="Weight against other containers; 1024 is Docker's usual."
    )


class Host(_Part):
    """One Docker engine of several."""

    docker: Annotated[str, AfterValidator(_engine)] = Field(
        description="Its engine, for instance ssh://deploy@10.0.0.11."
    )
    address: Annotated[str, AfterValidator(_ipv4)] = Field(
        description="The IPv4 address on which ports are published, and at which other hosts reach them. A private network: nothing is encrypted.",
    )


class Place(_Part):
    """Where one node runs."""

    host: str = Field(description="Of `hosts`.")


class StackConfig(_Part):
    """Everything that a stack says."""

    profile: Annotated[str, AfterValidator(_profile)] = Field(
        default="demo", description="Which nodes: minimal (1 + 1 + 1, one copy) or demo (3 + 3 + 3, three copies)."
    )
    port_offset: int = Field(
        default=0, ge=0, le=50_000, description="Added to every port, for a second cluster on the same machine."
    )
    disks: int = Field(
        default=4, ge=1, le=4, description="Volumes of each chunkserver. Never lower it on a stack with data."
    )
    cluster_id: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_-]{0,64}$",
        description="Which cluster the data belongs to; volumes of another one are refused. Empty: project and stack. Never change it.",
    )
    image: NodeImageConfig = NodeImageConfig()
    settings: dict[str, dict[str, Setting]] = Field(
        default_factory=dict,
        description="Daemon (master, chunkserver, mount, dashboard) or node (master-1) to its settings, as in `mooseng local up --set`; the node's own win.",
    )
    mounts: Annotated[str, AfterValidator(_absolute)] = Field(
        default="",
        description="Directory of the Docker host in which the mount of client N appears as client-N. Must exist, on a shared mount. Empty: mounts stay in their containers.",
    )
    health: Health = Health()
    limits: dict[Role, Limits] = Field(default_factory=dict, description="Role to limits.")
    rolling: bool = Field(
        default=False,
        description="Start, and replace, masters and chunkservers one after the other: slower, and the cluster serves meanwhile.",
    )
    protect: bool = Field(
        default=False,
        description="Pulumi refuses to delete the nodes' volumes. `pulumi destroy --exclude-protected` keeps them.",
    )
    hosts: dict[str, Host] = Field(
        default_factory=dict,
        description="Docker engines by a name. Empty: the engine that the docker provider finds itself.",
    )
    nodes: dict[str, Place] = Field(
        default_factory=dict, description="Node to its place. All nodes where there are hosts, else none."
    )
    prometheus: Prometheus = Prometheus()
    grafana: Grafana = Grafana()
    dashboard: Dashboard = Dashboard()


def parse(values: object) -> StackConfig:
    """The configuration that an object says; None is all defaults. Raises: ConfigurationError."""
    if values is None:
        values = {}
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"{KEY} is {values!r}; it must be an object, see docs/deploy.md")
    try:
        return StackConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigurationError(_sentence(error)) from None


def table() -> str:
    """Every key with default and meaning, as the Markdown table of docs/deploy.md."""
    rows = [f"| `{key}` | {_default(field)} | {field.description} |" for key, field in _fields(StackConfig, "")]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows]) + "\n"


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if get_origin(inner) is dict and isinstance(part := get_args(inner)[1], type) and issubclass(part, BaseModel):
            yield prefix + name, field
            key = {"limits": "ROLE", "hosts": "HOST", "nodes": "NODE"}[name]
            yield from _fields(part, f"{prefix}{name}.{key}.")
        elif isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _fields(inner, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _default(field: Any) -> str:
    if field.is_required():
        return "(needed)"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if value or value == 0 else "(empty)"


def _sentence(error: ValidationError) -> str:
    """The first mistake: key, what it is, what it may be. Values are not shown: they could be secrets."""
    first = error.errors(include_url=False)[0]
    *parents, last = (str(part) for part in first["loc"])
    key = ".".join([KEY, *parents, last])
    if first["type"] == "extra_forbidden":
        allowed = _siblings(parents)
        close = difflib.get_close_matches(last, allowed, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        return f"{key} is unknown; {hint}allowed here: {', '.join(allowed)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    if first["type"] == "literal_error":
        return f"{key} is {first['input']!r}; allowed: {first['ctx']['expected']}"
    if first["type"] == "value_error":
        return f"{key} is {first['input']!r}; allowed: {first['msg'].removeprefix('Value error, ')}"
    message = first["msg"][:1].lower() + first["msg"][1:]
    return f"{key} is wrong: {message}"


def _siblings(parents: list[str]) -> list[str]:
    model: Any = StackConfig
    for part in parents:
        if isinstance(model, type) and issubclass(model, BaseModel):
            model = model.model_fields[part].annotation
        elif get_origin(model) is dict:
            model = get_args(model)[1]
    return list(model.model_fields)
