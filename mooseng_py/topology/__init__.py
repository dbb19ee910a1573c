"""Which nodes a cluster has, and their configuration files: one description for every way to run it."""

from .profiles import DASHBOARD_PORT, PROFILES, dashboard_node, profile
from .prometheus import render_prometheus
from .render import Resolve, render_config
from .spec import ClusterSpec, NodeSpec, Ports, Role

__all__ = [
    "DASHBOARD_PORT",
    "PROFILES",
    "ClusterSpec",
    "NodeSpec",
    "Ports",
    "Resolve",
    "Role",
    "dashboard_node",
    "profile",
    "render_config",
    "render_prometheus",
]
