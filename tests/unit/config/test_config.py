"""The layers of a configuration, and the sentences about its mistakes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mooseng_py.config import MODELS, ChunkserverConfig, ConfigError, MasterConfig, MountConfig, check_text, load
from mooseng_py.config.native import node_settings

MASTER = {"node_id": "1", "data_dir": "/data", "cluster_id": "c"}


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_over_the_file_over_defaults(tmp_path: Path) -> None:
    file = toml(
        tmp_path,
        'role = "master"\nnode_id = 1\ndata_dir = "/data"\ncluster_id = "c"\nheartbeat_ms = 50\nname = "file"\n',
    )
    assert load(MasterConfig, file=file).copies == 3
    assert load(MasterConfig, file=file).heartbeat_ms == 50
    environ = {"MOOSENG_HEARTBEAT_MS": "60", "MOOSENG_NAME": "environment"}
    assert load(MasterConfig, file=file, environ=environ).heartbeat_ms == 60
    config = load(MasterConfig, file=file, environ=environ, flags={"heartbeat_ms": "70"})
    assert (config.heartbeat_ms, config.name) == (70, "environment")


def test_texts_become_lists_tables_and_truth_values() -> None:
    environ = {"MOOSENG_MASTERS": "a:1, b:2", "MOOSENG_ALLOW_OTHER": "off"}
    mount = load(MountConfig, environ=environ)
    assert (mount.masters, mount.allow_other) == (["a:1", "b:2"], False)
    master = load(MasterConfig, flags=MASTER | {"peers": "1=127.0.0.1:9421,2=h:2"})
    assert master.peers == {"1": "127.0.0.1:9421", "2": "h:2"}


def test_variables_of_other_daemons_and_parts_are_passed_over() -> None:
    environ = {"MOOSENG_DISKS": "/a", "MOOSENG_FAULTS": "x", "MOOSENG_TEST_KEEP": "1", "MOOSENG_DIR": "d", "OTHER": "1"}
    assert load(MasterConfig, flags=MASTER, environ=environ).node_id == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('node_id = "1"\ndata_dir = "/d"', ["node.toml", "'node_id'", "'1'", "1-255"]),
        ('node_id = 1\ndata_dir = "/d"\nlog_format = "xml"', ["node.toml", "'log_format'", "'console', 'json'"]),
        ('node_id = 1\ndata_dir = "/d"\nlisten = "nowhere"', ["'listen'", "'nowhere'", "host:port"]),
        ('node_id = 1\ndata_dir = "/d"\nlisten = "h:70000"', ["'listen'", "1-65535"]),
        (
            'node_id = 1\ndata_dir = "/d"\nheartbeet_ms = 1',
            ["'heartbeet_ms'", "did you mean 'heartbeat_ms'", "allowed"],
        ),
        ('role = "mount"\nnode_id = 1', ["'role'", "'mount'", "mooseng mount"]),
        ("node_id = 1\n[peers]\n1 = 3", ["peers", "3"]),
        ("node_id = ", ["node.toml", "not TOML"]),
        ('data_dir = "/d"', ["'node_id'", "missing", "MOOSENG_NODE_ID", "--node-id"]),
        ('node_id = 1\ndata_dir = "/d"\ncluster_id = "a b"', ["'cluster_id'", "matching"]),
        ('node_id = 1\ndata_dir = "/d"\nelection_min_ms = 150', ["election_min_ms = 150", "twice heartbeat_ms = 100"]),
        ('node_id = 1\ndata_dir = "/d"\nelection_max_ms = 500', ["election_max_ms = 500", "exceed"]),
        ('node_id = 1\ndata_dir = "/d"\ncopies = 1', ["min_copies = 2", "copies = 1"]),
        ('node_id = 4\ndata_dir = "/d"\n[peers]\n1 = "h:1"', ["node_id = 4", "peers"]),
        ('node_id = 1\ndata_dir = "/d"\n[peers]\n1 = "h:1"', ["advertise", "the same"]),
        ('node_id = 1\ndata_dir = "/d"\n[peers]\nx = "h:1"', ["'x'", "1-255"]),
        ('node_id = 1\ndata_dir = "/d"', ["cluster_id is empty", "the same one"]),
    ],
)
def test_a_mistake_is_one_sentence_with_place_key_and_what_is_allowed(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(MasterConfig, file=toml(tmp_path, text))
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert caught.value.exit_code == 2


def test_mistakes_in_the_environment_and_in_flags_name_them() -> None:
    with pytest.raises(ConfigError, match=r"MOOSENG_NODE_ID.*'x'.*1-255"):
        load(MasterConfig, environ={"MOOSENG_NODE_ID": "x"})
    with pytest.raises(ConfigError, match=r"MOOSENG_HEARTBEET_MS.*MOOSENG_HEARTBEAT_MS"):
        load(MasterConfig, environ={"MOOSENG_HEARTBEET_MS": "1"})
    with pytest.raises(ConfigError, match=r"--node-id.*within 1-255"):
        load(MasterConfig, flags={"node_id": "999"})
    with pytest.raises(ConfigError, match="without repeats"):
        load(ChunkserverConfig, flags={"server_id": "1", "masters": "a:1", "disks": "/a,/a"})
    with pytest.raises(ConfigError, match="--threds"):
        load(MountConfig, flags={"threds": "1"})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        load(MasterConfig, file=tmp_path / "gone.toml")


def test_settings_are_frozen() -> None:
    config = load(MasterConfig, flags=MASTER)
    with pytest.raises(ValidationError):
        config.copies = 1


@pytest.mark.parametrize("role", list(MODELS))
def test_every_setting_says_what_it_does(role: str) -> None:
    for name, field in MODELS[role].model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@given(st.dictionaries(st.sampled_from(sorted(MasterConfig.model_fields)), st.text(max_size=12)))
def test_any_flags_give_settings_or_a_sentence(flags: dict[str, str]) -> None:
    try:
        assert isinstance(load(MasterConfig, flags=flags), MasterConfig)
    except ConfigError as error:
        assert "command line" in str(error) or "must" in str(error) or "peers" in str(error)


@given(st.text(max_size=60))
def test_any_text_is_a_configuration_or_a_sentence(text: str) -> None:
    try:
        check_text(MountConfig, text, "here")
    except ConfigError as error:
        assert str(error).startswith("here")


def test_the_native_settings_are_what_the_seam_says() -> None:
    master = node_settings(load(MasterConfig, flags=MASTER))
    assert set(master) == {
        "cluster_id", "node_id", "listen", "advertise", "peers", "data_dir", "copies", "min_copies", "inline_limit_bytes",
        "heartbeat_ms", "election_min_ms", "election_max_ms", "snapshot_every", "segment_bytes", "session_timeout_ms",
        "server_timeout_ms",
    }  # fmt: skip
    assert master["peers"] == {"1": "127.0.0.1:9421"}
    server = node_settings(load(ChunkserverConfig, flags={"server_id": "1", "masters": "a:1", "disks": "/a"}))
    assert set(server) == {
        "cluster_id", "server_id", "masters", "listen", "advertise", "disks", "heartbeat_ms", "direct_io",
        "reserve_bytes", "scrub_mb_s", "payload_budget_bytes",
    }  # fmt: skip
    mount = node_settings(load(MountConfig, flags={"masters": "a:1"}))
    assert set(mount) == {
        "cluster_id", "masters", "name", "deadline_ms", "read_ahead_bytes", "write_window_bytes", "atime", "mount_point",
        "allow_other", "account_groups", "threads",
    }  # fmt: skip
