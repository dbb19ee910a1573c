"""How full a master's data directory is."""

import os
from pathlib import Path

from mooseng_py.master.space import DataDirectory
from mooseng_py.observe import registry


def test_room_is_that_of_the_file_system_with_the_data(tmp_path: Path) -> None:
    samples = {name: value for name, _, value in DataDirectory(str(tmp_path)).samples()}
    room = os.statvfs(tmp_path)
    assert samples["mooseng_master_data_total_bytes"] == room.f_blocks * room.f_frsize
    assert 0 < samples["mooseng_master_data_free_bytes"] <= samples["mooseng_master_data_total_bytes"]
    assert all(registry.find(name) for name in samples)


def test_a_directory_that_is_gone_has_no_samples_and_no_error(tmp_path: Path) -> None:
    assert DataDirectory(str(tmp_path / "gone")).samples() == []
