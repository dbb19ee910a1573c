"""From Pulumi's configuration to its outputs: reads the stack, plans it, makes it. What is wrong ends in one sentence."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi.runtime import get_config_env, get_config_secret_keys_env
from pulumi.runtime.config import CONFIG, is_config_secret

from .cluster import MooseCluster
from .config import ConfigurationError, parse
from .plan import Plan, plan

_KEYS = ("cluster", "grafanaPassword")


def main() -> None:
    """Make the stack. Raises: RunError with one sentence."""
    try:
        config = pulumi.Config("mooseng")
        _require_known_keys()
        planned = plan(pulumi.get_stack(), pulumi.get_project(), parse(_cluster(config)))
        password = _password(config, planned)
    except ConfigurationError as error:
        raise pulumi.RunError(str(error)) from None
    for sentence in planned.left_out():
        pulumi.log.info(sentence)
    cluster = MooseCluster("mooseng", planned, password=password)
    for name, value in cluster.results.items():
        pulumi.export(name, value)


def _cluster(config: pulumi.Config) -> Any:
    try:
        return config.get_object("cluster")
    except pulumi.ConfigTypeError:
        raise ConfigurationError("mooseng:cluster must be an object, see docs/deploy.md") from None


def _require_known_keys() -> None:
    """Pulumi itself lets unknown keys pass. Raises: ConfigurationError."""
    for key in sorted({**get_config_env(), **CONFIG.get()}):
        namespace, _, name = key.partition(":")
        if namespace == "mooseng" and name not in _KEYS:
            allowed = ", ".join(f"mooseng:{known}" for known in _KEYS)
            raise ConfigurationError(f"{key} is unknown; allowed: {allowed}")


def _password(config: pulumi.Config, planned: Plan) -> pulumi.Output[str] | None:
    """Grafana's administrator's password, where the stack has Grafana. Raises: ConfigurationError."""
    key = config.full_key("grafanaPassword")
    how = "set it with `pulumi config set --secret mooseng:grafanaPassword`"
    password = config.get_secret("grafanaPassword")
    if password is not None and not is_config_secret(key) and key not in get_config_secret_keys_env():
        raise ConfigurationError(f"{key} stands in clear text; remove it and {how}")
    if planned.grafana is None:
        return None
    if password is None:
        raise ConfigurationError(f"{key} is missing, and Grafana needs it; {how}")
    return password
