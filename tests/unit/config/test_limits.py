"""Every setting against the native side: the same bounds on both, and none that does nothing."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from mooseng_py import native
from mooseng_py.config import MODELS, ConfigError, load
from mooseng_py.config.models import schema_of
from mooseng_py.config.native import node_settings
from mooseng_py.errors import MooseError
from mooseng_py.native.generate import text

Role = Literal["master", "chunkserver", "mount"]

GIVEN: dict[str, dict[str, str]] = {
    "master": {"node_id": "1", "data_dir": "/data", "cluster_id": "c"},
    "chunkserver": {"server_id": "1", "masters": "a:1", "disks": "/a"},
    "mount": {"masters": "a:1", "mount_point": "/m"},
    "dashboard": {"masters": "a:1"},
}
# What has to give way when the key goes to its bounds.
BESIDE = {
    "copies": {"min_copies": "1"},
    "min_copies": {"copies": "7"},
    "heartbeat_ms": {"election_min_ms": "60000", "election_max_ms": "120000"},
    "election_min_ms": {"heartbeat_ms": "10", "election_max_ms": "120000"},
    "election_max_ms": {"heartbeat_ms": "10", "election_min_ms": "50"},
}
# Set by measurements of the native side, not by operators.
NOT_SETTINGS = {"commit_window", "level"}


def loaded(role: str, **flags: str) -> Any:
    return load(MODELS[role], flags=GIVEN[role] | flags)


def numbers(role: str) -> dict[str, tuple[int, int]]:
    """The numbers that a daemon of this role hands to its native side, with the bounds that Python has for them."""
    schemas = {
        key: schema_of(MODELS[role], key) for key in node_settings(loaded(role)) if key in MODELS[role].model_fields
    }
    return {key: (at["minimum"], at["maximum"]) for key, at in schemas.items() if at.get("type") == "integer"}


ROLES: list[Role] = ["master", "chunkserver", "mount"]
EACH = [(role, key) for role in ROLES for key in numbers(role)]


def beside(role: str, key: str) -> dict[str, str]:
    return BESIDE.get(key, {}) if role == "master" else {}


def test_the_bounds_are_those_of_the_library() -> None:
    source = Path(__file__).parents[3] / "mooseng_py/config/limits.py"
    assert source.read_text() == text(), "run `make limits`"


@pytest.mark.parametrize("role", ROLES)
def test_every_number_of_the_native_side_is_a_setting(role: Role) -> None:
    ours = native.LIMITS[role] | (native.LIMITS["client"] if role == "mount" else {})
    assert set(numbers(role)) == set(ours) - NOT_SETTINGS


@pytest.mark.parametrize(("role", "key"), EACH)
def test_both_sides_take_a_number_up_to_its_bounds_and_none_beyond(role: Role, key: str) -> None:
    least, most = numbers(role)[key]
    for value in (least, most):
        native.check_settings(role, node_settings(loaded(role, **beside(role, key) | {key: str(value)})))
    good = node_settings(loaded(role, **beside(role, key)))
    for value in (least - 1, most + 1):
        with pytest.raises(ConfigError, match=f"{key}.*within {least}-{most}"):
            loaded(role, **{key: str(value)})
        with pytest.raises(MooseError, match=key if value >= 0 else "integer"):
            native.check_settings(role, good | {key: value})


@pytest.mark.parametrize("key", ["deadline_ms", "read_ahead_bytes", "write_window_bytes"])
def test_a_dashboard_stays_within_the_bounds_of_a_client(key: str) -> None:
    at, limit = schema_of(MODELS["dashboard"], key), native.LIMITS["client"][key]
    assert limit.least <= at["minimum"] <= at["default"] <= at["maximum"] <= limit.most


@pytest.mark.parametrize("address", ["h:1", "a.b-c:65535", "[::1]:9420", "10.0.0.1:9421"])
@pytest.mark.parametrize("role", ROLES)
def test_the_native_side_takes_every_address_that_a_setting_takes(role: Role, address: str) -> None:
    keys = {"master": ["listen", "advertise"], "chunkserver": ["listen", "advertise", "masters"], "mount": ["masters"]}
    for key in keys[role]:
        native.check_settings(role, node_settings(loaded(role, **{key: address})))


@pytest.mark.parametrize("cluster_id", ["", "c", "A-b_9" * 12])
@pytest.mark.parametrize("role", ROLES)
def test_the_native_side_takes_every_cluster_id_that_a_setting_takes(role: Role, cluster_id: str) -> None:
    try:
        config = loaded(role, cluster_id=cluster_id)
    except ConfigError:
        assert (role, cluster_id) == ("master", "")
        return
    native.check_settings(role, node_settings(config))


@pytest.mark.parametrize(("role", "key"), [(role, key) for role in MODELS for key in MODELS[role].model_fields])
def test_every_setting_reaches_the_native_side_or_is_read_by_its_daemon(role: str, key: str) -> None:
    """One that nobody reads would do nothing."""
    package = Path(__file__).parents[3] / "mooseng_py"
    files = [package / "daemon/lifecycle.py", package / "config/native.py", *(package / role).rglob("*.py")]
    models = (package / "config/models.py").read_text()
    read = re.compile(rf"\bconfig\.{'advertised' if key == 'advertise' else key}\b")
    assert any(read.search(file.read_text()) for file in files), key
    assert f"    {key}: " in models
