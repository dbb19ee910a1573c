"""Prometheus, which scrapes every node, and Grafana, which shows it. What they evaluate and show comes in as texts.

Their configuration is uploaded when a container is made, so their root file systems stay writable; all else is closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pulumi
import pulumi_docker as docker

from .engine import Engine
from .image import Image
from .options import CONTAINER_REPLACED_FOR, container_labels, duration, fixed_name, labels, published
from .plan import Plan, Service, digest

_PROMETHEUS = "/etc/mooseng"
_PROVISIONING = "/etc/grafana/provisioning"
_DASHBOARDS = "/etc/mooseng/dashboards"
_PASSWORD = "/etc/mooseng/grafana-password"
_STOP_GRACE_S = 30


@dataclass(frozen=True)
class Content:
    """What is evaluated and shown: file name to text. `rules` are Prometheus rule files, `dashboards` Grafana's JSON."""

    rules: Mapping[str, str] = field(default_factory=dict)
    dashboards: Mapping[str, str] = field(default_factory=dict)


class Monitoring(pulumi.ComponentResource):
    """Each part only where the stack asks for it. `endpoints`: name to URL."""

    def __init__(
        self,
        name: str,
        plan: Plan,
        engines: Mapping[str, Engine],
        content: Content,
        password: pulumi.Output[str] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """`password`: Grafana's administrator's; needed where Grafana is."""
        super().__init__("mooseng:infra:Monitoring", name, None, opts)
        self.endpoints: dict[str, str] = {}
        if (prometheus := plan.prometheus) is not None:
            self._prometheus(plan, prometheus, engines[prometheus.host], content.rules)
        if (grafana := plan.grafana) is not None:
            if password is None:
                raise ValueError("Grafana needs an administrator's password")
            self._grafana(plan, grafana, engines[grafana.host], content.dashboards, password)
        self.register_outputs({"endpoints": self.endpoints})

    def _prometheus(self, plan: Plan, service: Service, engine: Engine, rules: Mapping[str, str]) -> None:
        config = plan.config.prometheus
        files = {f"{_PROMETHEUS}/rules/{name}": text for name, text in sorted(rules.items())}
        files = {f"{_PROMETHEUS}/prometheus.yml": plan.prometheus_file(list(files)), **files}
        self._container(
            plan,
            service,
            engine,
            Image("prometheus-image", config.image, config.mode, engine.provider, _child(self)),
            data="/prometheus",
            user="65534:65534",
            entrypoints=["prometheus"],
            command=[
                f"--config.file={_PROMETHEUS}/prometheus.yml",
                "--storage.tsdb.path=/prometheus",
                f"--storage.tsdb.retention.time={config.retention}",
            ],
            health=["CMD", "promtool", "check", "healthy", f"--url=http://127.0.0.1:{service.inner_port}"],
            uploads=_uploads(files),
            visible=digest(*files, *files.values()),
        )

    def _grafana(
        self, plan: Plan, service: Service, engine: Engine, dashboards: Mapping[str, str], password: pulumi.Output[str]
    ) -> None:
        config = plan.config.grafana
        files = {
            f"{_PROVISIONING}/datasources/mooseng.yaml": _DATASOURCE,
            f"{_PROVISIONING}/dashboards/mooseng.yaml": _PROVIDER,
            **{f"{_DASHBOARDS}/{name}": text for name, text in sorted(dashboards.items())},
        }
        # A file and not the environment, which `docker inspect` shows in clear. The label's hash leaves it out.
        secret = docker.ContainerUploadArgs(file=_PASSWORD, content=password, permissions="0444")
        self._container(
            plan,
            service,
            engine,
            Image("grafana-image", config.image, config.mode, engine.provider, _child(self)),
            data="/var/lib/grafana",
            user="472:0",
            envs=[
                "GF_ANALYTICS_CHECK_FOR_UPDATES=false",
                "GF_ANALYTICS_REPORTING_ENABLED=false",
                f"GF_SECURITY_ADMIN_PASSWORD__FILE={_PASSWORD}",
                "GF_USERS_ALLOW_SIGN_UP=false",
            ],
            health=["CMD", "wget", "-q", "-O", "/dev/null", f"http://127.0.0.1:{service.inner_port}/api/health"],
            uploads=[*_uploads(files), secret],
            visible=digest(*files, *files.values()),
        )

    def _container(
        self,
        plan: Plan,
        service: Service,
        engine: Engine,
        image: Image,
        *,
        data: str,
        user: str,
        health: Sequence[str],
        uploads: Sequence[docker.ContainerUploadArgs],
        visible: str,
        entrypoints: Sequence[str] | None = None,
        command: Sequence[str] | None = None,
        envs: Sequence[str] | None = None,
    ) -> None:
        """What both are made of. `data`: the directory in a volume. `visible`: hash for the label."""
        identity: dict[str, str | int] = {"stack": plan.stack, "role": service.name}
        container, times = plan.container_name(service.name), plan.config.health
        volume = docker.Volume(
            f"{service.name}-data",
            name=f"{container}-data",
            labels=[docker.VolumeLabelArgs(label=label, value=value) for label, value in labels(identity)],
            opts=fixed_name(self, engine.provider, protect=plan.config.protect),
        )
        docker.Container(
            service.name,
            name=container,
            image=image.id,
            entrypoints=None if entrypoints is None else list(entrypoints),
            command=None if command is None else list(command),
            envs=None if envs is None else list(envs),
            hostname=service.name,
            network_mode="bridge",
            networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=engine.network.name, aliases=[service.name])],
            ports=published(plan.publish_address(service.host), [(service.inner_port, service.port)]),
            volumes=[docker.ContainerVolumeArgs(volume_name=volume.name, container_path=data)],
            uploads=list(uploads),
            user=user,
            capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"]),
            security_opts=["no-new-privileges"],
            init=True,
            restart="unless-stopped",
            must_run=True,
            healthcheck=docker.ContainerHealthcheckArgs(
                tests=list(health),
                interval=duration(times.interval_s),
                timeout=duration(times.timeout_s),
                start_period=duration(times.start_period_s),
                retries=times.retries,
            ),
            wait=True,
            wait_timeout=times.wait_timeout_s,
            destroy_grace_seconds=_STOP_GRACE_S,
            stop_timeout=_STOP_GRACE_S,
            labels=container_labels({**identity, "config": visible}),
            opts=fixed_name(self, engine.provider, replace_on_changes=CONTAINER_REPLACED_FOR),
        )
        self.endpoints[service.name] = f"http://{service.published}"


def _uploads(files: Mapping[str, str]) -> list[docker.ContainerUploadArgs]:
    return [docker.ContainerUploadArgs(file=path, content=text, permissions="0444") for path, text in files.items()]


def _child(parent: pulumi.Resource) -> pulumi.ResourceOptions:
    return pulumi.ResourceOptions(parent=parent)


_DATASOURCE = """\
apiVersion: 1
datasources:
  - name: MooseNG
    uid: mooseng
    type: prometheus
    access: proxy
    url: http://prometheus:9090
    isDefault: true
"""

_PROVIDER = f"""\
apiVersion: 1
providers:
  - name: MooseNG
    folder: MooseNG
    type: file
    disableDeletion: true
    options:
      path: {_DASHBOARDS}
"""
