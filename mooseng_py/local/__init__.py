"""A whole cluster as processes on this machine, everything under one directory."""

from .cluster import LocalCluster
from .errors import LocalError

__all__ = ["LocalCluster", "LocalError"]
