"""Typed, frozen settings of each daemon: defaults < TOML file < MOOSENG_* environment < flags."""

from .errors import ConfigError
from .layers import check_text, load, parse_text, read_file
from .models import MODELS, ChunkserverConfig, DaemonConfig, DashboardConfig, MasterConfig, MountConfig

__all__ = [
    "MODELS",
    "ChunkserverConfig",
    "ConfigError",
    "DaemonConfig",
    "DashboardConfig",
    "MasterConfig",
    "MountConfig",
    "check_text",
    "load",
    "parse_text",
    "read_file",
]
