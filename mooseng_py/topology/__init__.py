"""Which nodes a cluster has, and their configuration files: one description for every way to run it."""

from .profiles import PROFILES, profile
from .prometheus import render_prometheus
from .render import Resolve, render_config
from .spec import ClusterSpec, NodeSpec, Ports, Role

__all__ = [
    "PROFILES",
    "ClusterSpec",
    "NodeSpec",
    "Ports",
    "Resolve",
    "Role",
    "profile",
    "render_config",
    "render_prometheus",
]
