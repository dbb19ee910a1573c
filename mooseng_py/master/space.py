"""How full the file system with a master's log is. A master whose log cannot be written leaves the group."""

from __future__ import annotations

import os


class DataDirectory:
    """Measured at each scrape; never written."""

    def __init__(self, path: str) -> None:
        self._path = path

    def stop(self) -> None:
        """Nothing runs."""

    def samples(self) -> list[tuple[str, list[tuple[str, str]], float]]:
        """For /metrics; nothing where the file system does not answer."""
        try:
            room = os.statvfs(self._path)
        except OSError:
            return []
        return [
            ("mooseng_master_data_total_bytes", [], float(room.f_blocks * room.f_frsize)),
            ("mooseng_master_data_free_bytes", [], float(room.f_bavail * room.f_frsize)),
        ]
