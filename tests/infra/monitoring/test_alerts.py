"""Prometheus' own rule tests: each alert is silent on a healthy cluster, waits as long as it says, and fires on its fault."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from mooseng_py.observe.monitoring.alerts import Alert, alerts
from tests.infra.monitoring.support import RULES, promtool

M1, M2, C1, M = 'instance="master-1"', 'instance="master-2"', 'instance="chunkserver-1"', 'instance="client-1"'
DISK = f'{{{C1},disk="/data-1"}}'

# Series to values, every 15 s. What master-2 says of chunks and servers is old, as on a master that no longer leads.
HEALTHY = {
    f'up{{job="mooseng",role="master",{M1}}}': "1x160",
    f'up{{job="mooseng",role="chunkserver",{C1}}}': "1x160",
    'up{job="mooseng",role="chunkserver",instance="chunkserver-2"}': "1x160",
    f'up{{job="mooseng",role="client",{M}}}': "1x160",
    f"mooseng_node_ready{{{M1}}}": "1x160",
    f"process_open_fds{{{M1}}}": "30x160",
    f"process_max_fds{{{M1}}}": "1000x160",
    f"mooseng_master_is_leader{{{M1}}}": "1x160",
    f"mooseng_master_is_leader{{{M2}}}": "0x160",
    f"mooseng_raft_elections_total{{{M1}}}": "1x40 2x120",
    f"mooseng_raft_fenced{{{M1}}}": "0x160",
    f"mooseng_raft_snapshot_failing{{{M1}}}": "0x160",
    f"mooseng_master_data_free_bytes{{{M1}}}": "50x160",
    f"mooseng_master_data_total_bytes{{{M1}}}": "100x160",
    f"mooseng_master_commit_seconds_sum{{{M1}}}": "0+1x160",
    f"mooseng_master_commit_seconds_count{{{M1}}}": "0+100x160",
    f'mooseng_raft_follower_lag_entries{{{M1},node="2"}}': "5000 3x160",
    f"mooseng_planner_failures_total{{{M1}}}": "2x160",
    f"mooseng_master_refused_servers{{{M1}}}": "0x160",
    f"mooseng_master_servers_up{{{M1}}}": "2x160",
    f"mooseng_master_servers_up{{{M2}}}": "0x160",
    f"mooseng_master_under_replicated_chunks{{{M1}}}": "0x20 7x20 0x120",
    f"mooseng_master_under_replicated_chunks{{{M2}}}": "9x160",
    f"mooseng_master_missing_chunks{{{M1}}}": "0x160",
    f"mooseng_master_missing_chunks{{{M2}}}": "9x160",
    f"mooseng_chunkserver_disk_free_bytes{DISK}": "50x160",
    f"mooseng_chunkserver_disk_total_bytes{DISK}": "100x160",
    f"mooseng_chunkserver_disk_ok{DISK}": "1x160",
    f'mooseng_chunkserver_bad_blocks_total{{{C1},found_by="scrub"}}': "4x160",
    f"mooseng_chunkserver_bad_chunks{{{C1}}}": "0x160",
    f'mooseng_master_heals_total{{{M1},result="failed"}}': "4x160",
    f'mooseng_master_heals_total{{{M1},result="ok"}}': "0+9x160",
    f"mooseng_master_sessions_expired_total{{{M1}}}": "2x160",
    f"mooseng_client_write_faults_total{{{M}}}": "1x160",
    f"mooseng_client_crc_errors_total{{{M}}}": "1x160",
}

FAULTS = {
    "MooseNGScrapeTargetDown": {f'up{{job="mooseng",role="client",{M}}}': "0x160"},
    "MooseNGNodeNotReady": {f"mooseng_node_ready{{{M1}}}": "0x160"},
    "MooseNGFileDescriptorsScarce": {f"process_open_fds{{{M1}}}": "900x160"},
    "MooseNGNoLeader": {f"mooseng_master_is_leader{{{M1}}}": "0x160"},
    "MooseNGElectionStorm": {f"mooseng_raft_elections_total{{{M1}}}": "0+1x160"},
    "MooseNGMasterFenced": {f"mooseng_raft_fenced{{{M1}}}": "1x160"},
    "MooseNGSnapshotsFail": {f"mooseng_raft_snapshot_failing{{{M1}}}": "1x160"},
    "MooseNGMasterDiskNearlyFull": {f"mooseng_master_data_free_bytes{{{M1}}}": "9x160"},
    "MooseNGSlowCommits": {f"mooseng_master_commit_seconds_sum{{{M1}}}": "0+30x160"},
    "MooseNGFollowerLag": {f'mooseng_raft_follower_lag_entries{{{M1},node="2"}}': "5000x160"},
    "MooseNGPlannersFail": {f"mooseng_planner_failures_total{{{M1}}}": "0+1x160"},
    "MooseNGServerDown": {f"mooseng_master_servers_up{{{M1}}}": "1x160"},
    "MooseNGUnderReplicated": {f"mooseng_master_under_replicated_chunks{{{M1}}}": "7x160"},
    "MooseNGMissingChunks": {f"mooseng_master_missing_chunks{{{M1}}}": "1x160"},
    "MooseNGMastersPutBack": {
        f"mooseng_master_refused_servers{{{M1}}}": "1x160",
        f"mooseng_master_is_leader{{{M1}}}": "1x160",
    },
    "MooseNGDiskNearlyFull": {f"mooseng_chunkserver_disk_free_bytes{DISK}": "9x160"},
    "MooseNGDiskFailed": {f"mooseng_chunkserver_disk_ok{DISK}": "0x160"},
    "MooseNGDamagedBlocks": {f'mooseng_chunkserver_bad_blocks_total{{{C1},found_by="scrub"}}': "0x20 1x140"},
    "MooseNGDamageNotRepaired": {f"mooseng_chunkserver_bad_chunks{{{C1}}}": "1x160"},
    "MooseNGHealsFail": {f'mooseng_master_heals_total{{{M1},result="failed"}}': "0+1x160"},
    "MooseNGSessionLost": {f"mooseng_master_sessions_expired_total{{{M1}}}": "2x100 3x60"},
    "MooseNGWritesFailed": {f"mooseng_client_write_faults_total{{{M}}}": "1x100 2x60"},
    "MooseNGClientChecksumErrors": {f"mooseng_client_crc_errors_total{{{M}}}": "1x100 2x60"},
}


def seconds(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([smh])", text).groups()  # type: ignore[union-attr]  # every rule's matches
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def count(state: str, at_s: int, expected: int, name: str = "") -> dict[str, Any]:
    """How many alerts are in a state then."""
    chosen = f'alertstate="{state}"' + (f',alertname="{name}"' if name else "")
    return {
        "expr": f"count(ALERTS{{{chosen}}}) or vector(0)",
        "eval_time": f"{at_s}s",
        "exp_samples": [{"labels": "{}", "value": expected}],
    }


def group(name: str, series: dict[str, str], checks: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "interval": "15s",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": checks,
        **more,
    }


def outcome(tmp_path: Path, *groups: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """One run of promtool for all of them: it takes a second to start."""
    file = tmp_path / "test.yml"
    # JSON is YAML as well.
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": groups}))
    return promtool("test", "rules", str(file))


def fires(rule: Alert, fault: dict[str, str]) -> dict[str, Any]:
    """It fires, nothing else does, and it was pending before as long as it says."""
    checks = [count("firing", 30 * 60, 1, rule.name), count("firing", 30 * 60, 1)]
    if patience := seconds(rule.lasting):
        early = max(15, patience // 2)
        checks += [count("pending", early, 1, rule.name), count("firing", early, 0, rule.name)]
    return group(rule.name, HEALTHY | fault, checks)


def test_a_healthy_cluster_is_silent_all_the_time(tmp_path: Path) -> None:
    done = outcome(tmp_path, group("healthy", HEALTHY, [count("firing", minute * 60, 0) for minute in range(1, 40)]))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_fault_here() -> None:
    assert sorted(FAULTS) == sorted(rule.name for rule in alerts())
    for name, fault in FAULTS.items():
        assert fault.keys() <= HEALTHY.keys(), name


def test_each_alert_fires_on_its_fault_alone_and_not_before_its_time(tmp_path: Path) -> None:
    done = outcome(tmp_path, *(fires(rule, FAULTS[rule.name]) for rule in alerts()))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_does_not_fire_is_found(tmp_path: Path) -> None:
    rule = alerts()[0]
    done = outcome(tmp_path, fires(rule, {}))
    assert done.returncode != 0
    assert rule.name in done.stdout + done.stderr


def test_no_leader_fires_as_well_when_no_master_answers(tmp_path: Path) -> None:
    silent = {name: values for name, values in HEALTHY.items() if "master" not in name.partition("{")[2]}
    done = outcome(tmp_path, group("silent", silent, [count("firing", 600, 1, "MooseNGNoLeader")]))
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_names_node_and_value(tmp_path: Path) -> None:
    rule = next(rule for rule in alerts() if rule.name == "MooseNGDiskNearlyFull")
    expected = {
        "exp_labels": {"severity": "warning", "instance": "chunkserver-1", "disk": "/data-1"},
        "exp_annotations": {"summary": "chunkserver-1: 9% of /data-1 is free.", "mend": rule.mend},
    }
    asked = [{"eval_time": "30m", "alertname": rule.name, "exp_alerts": [expected]}]
    done = outcome(tmp_path, group(rule.name, HEALTHY | FAULTS[rule.name], [], alert_rule_test=asked))
    assert done.returncode == 0, done.stdout + done.stderr
