"""From what was seen to what is shown, without a cluster."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from mooseng_py.dashboard.files import placement
from mooseng_py.dashboard.overview import overview, rates
from mooseng_py.dashboard.rates import Point
from mooseng_py.dashboard.seen import Seen, Snapshot, facts
from mooseng_py.dashboard.sources import NodeLook
from mooseng_py.proto import cluster_pb2
from mooseng_py.sdk import Chunk

ADDRESSES = {1: "h:1", 2: "h:2", 3: "h:3"}


def view(leader: int = 1, term: int = 4, *, own: bool = False, **more: Any) -> cluster_pb2.ClusterView:
    roles = {number: "leader" if number == leader else "follower" for number in ADDRESSES}
    return cluster_pb2.ClusterView(
        term=term,
        leader=ADDRESSES.get(leader, ""),
        leader_id=leader,
        is_leader=own,
        cluster_id="c",
        copies=3,
        min_copies=2,
        chunks=10,
        masters=[
            cluster_pb2.MasterView(node_id=number, address=address, role=roles[number], last_log=50, applied=50)
            for number, address in ADDRESSES.items()
        ],
        servers=[
            cluster_pb2.ServerView(
                server_id=number,
                address=f"s:{number}",
                up=True,
                chunks=10,
                disks=[
                    cluster_pb2.DiskStatus(path="/d", total_bytes=100, free_bytes=40, condition=cluster_pb2.DISK_OK)
                ],
            )
            for number in (1, 2, 3)
        ],
        **more,
    )


def snapshot(**more: Any) -> Snapshot:
    """All well: three masters, the first leads, heard at 100 s."""
    masters = {
        "h:1": Seen(view(own=True), 100.0),
        "h:2": Seen(view(), 100.0),
        "h:3": Seen(view(), 100.0),
    }
    made = Snapshot(looks=1, masters=masters, led=masters["h:1"], sessions=Seen({}, 100.0))
    return replace(made, **more)


def gone(seen: Seen[Any]) -> Seen[Any]:
    return seen.failed("refused", 101.0)


def test_a_cluster_that_is_well_is_called_so_and_prints_as_json() -> None:
    found = overview(snapshot(), 101.0)
    assert found["verdict"]["state"] == "good"
    assert found["leader"] == {
        "name": "master-1",
        "address": "h:1",
        "term": 4,
        "agreeing": ["master-1", "master-2", "master-3"],
    }
    assert found["space"] == {"total_bytes": 300, "free_bytes": 120, "copies": 3}
    assert [row["role"] for row in found["masters"]] == ["leader", "follower", "follower"]
    assert found["masters"][0]["age_ms"] == 1000
    json.dumps(found)


def test_a_silent_follower_is_shown_with_its_last_figures_and_their_age() -> None:
    well = snapshot()
    found = overview(replace(well, masters={**well.masters, "h:3": gone(well.masters["h:3"])}), 103.0)
    row = found["masters"][2]
    assert (row["role"], row["age_ms"], row["failing_ms"], row["applied"]) == ("silent", 3000, 2000, 50)
    assert found["verdict"] == {"state": "warning", "sentences": ["master-3 does not answer"]}
    assert found["leader"]["agreeing"] == ["master-1", "master-2"]


def test_a_dead_leader_is_no_leader_though_its_followers_still_name_it() -> None:
    well = snapshot()
    dead = replace(well, masters={**well.masters, "h:1": gone(well.masters["h:1"])}, led=gone(well.led))
    found = overview(dead, 102.0)
    assert found["leader"] is None
    assert found["verdict"]["state"] == "bad"
    assert "No master leads" in found["verdict"]["sentences"][0]
    # Disks and danger are the leader's knowledge: what it last said stays, with its age.
    assert found["chunkservers"][0]["disks"][0]["path"] == "/d"
    assert (found["chunks"]["age_ms"], found["chunks"]["error"]) == (2000, "refused")


def test_a_new_leader_is_believed_over_an_old_one_that_came_back() -> None:
    masters = {
        "h:1": Seen(view(own=True), 100.0),
        "h:2": Seen(view(2, 5, own=True), 100.0),
        "h:3": Seen(view(2, 5), 100.0),
    }
    found = overview(snapshot(masters=masters, led=masters["h:2"]), 100.0)
    assert (found["leader"]["name"], found["leader"]["term"]) == ("master-2", 5)
    assert found["leader"]["agreeing"] == ["master-2", "master-3"]


def test_with_all_masters_silent_everything_is_still_there_and_called_old() -> None:
    well = snapshot()
    found = overview(
        replace(well, masters={at: gone(seen) for at, seen in well.masters.items()}, led=gone(well.led)), 160.0
    )
    assert found["verdict"]["sentences"][0].startswith("No master answers")
    assert found["heard_ms_ago"] == 60_000
    assert len(found["chunkservers"]) == 3


def test_before_anybody_answered_nothing_is_made_up() -> None:
    empty = Snapshot(looks=1, masters={"h:1": Seen().failed("refused", 1.0)}, nodes={"client-1": Seen()})
    found = overview(empty, 2.0)
    assert found["verdict"] == {"state": "unknown", "sentences": ["No master has answered yet"]}
    assert (found["leader"], found["chunks"]["known"], found["heard_ms_ago"]) == (None, False, None)
    assert found["masters"][0]["name"] == "h:1"
    assert found["clients"][0]["state"] == "silent"


def test_chunks_without_a_copy_are_counted_once() -> None:
    led = Seen(view(own=True, under_replicated=3, missing=1), 100.0)
    found = overview(snapshot(led=led), 100.0)
    assert {key: found["chunks"][key] for key in ("whole", "endangered", "missing")} == {
        "whole": 7,
        "endangered": 2,
        "missing": 1,
    }
    assert found["verdict"]["state"] == "bad"


def test_nodes_and_views_are_joined_by_the_ids_that_nodes_say() -> None:
    look = NodeLook({"mooseng_node_ready": 1.0, "process_start_time_seconds": 5.0}, role="master", said={"node_id": 2})
    odd = snapshot(nodes={"the-second": Seen(look, 100.0)}, rates={"the-second": {"cpu_seconds": 0.5}})
    found = overview(odd, 100.0)
    assert [row["process"] is not None for row in found["masters"]] == [False, True, False]
    assert found["masters"][1]["process"]["cpu"] == 0.5


def test_a_mount_is_shown_with_its_session_and_other_sessions_beside_it() -> None:
    said = {"session": 9, "mount_point": "/mnt", "reason": "mounted"}
    look = NodeLook({"mooseng_node_ready": 1.0, "mooseng_fuse_open_files": 2.0}, role="client", said=said)
    sessions = {
        9: cluster_pb2.SessionView(id=9, name="client-1", host="a", idle_ms=5),
        10: cluster_pb2.SessionView(id=10, name="<b>backup</b>", host="b"),
    }
    found = overview(snapshot(nodes={"client-1": Seen(look, 100.0)}, sessions=Seen(sessions, 100.0)), 100.0)
    assert [(row["name"], row["state"], row["session"]) for row in found["clients"]] == [
        ("client-1", "ready", 9),
        ("<b>backup</b>", "connected", 10),
    ]


def test_facts_leave_out_what_did_not_answer() -> None:
    well = snapshot()
    known = facts(well)
    assert (known.leader, known.under_replicated, known.sessions) == ("master-1", 0, {})
    silent = facts(replace(well, masters={at: gone(seen) for at, seen in well.masters.items()}, led=gone(well.led)))
    assert (silent.leader, silent.under_replicated, silent.servers) == (None, None, {})
    assert set(silent.masters.values()) == {False}


def test_a_copy_lives_when_its_server_is_up_and_the_leader_does_not_say_otherwise() -> None:
    chunk = cluster_pb2.ChunkState(id=7, servers=[1, 2, 3])
    led = Seen(view(own=True, troubled=[cluster_pb2.ChunkTrouble(chunk=chunk, live=[1])]), 100.0)
    newest = view(own=True)
    newest.servers[2].up = False
    masters = {"h:1": Seen(newest, 100.0)}

    def place(number: int) -> list[bool]:
        asked = Chunk(0, number, 1, {1: "s:1", 2: "s:2", 3: "s:3"}, True, False, 10)
        return [copy["live"] for copy in placement(snapshot(led=led, masters=masters))(asked)["copies"]]

    assert place(7) == [True, False, False]
    assert place(8) == [True, True, False]


def test_rates_have_one_value_for_each_moment_and_null_where_none_was_given() -> None:
    points = (Point(1, {"name_ops": 1.0}, 3), Point(2, {}, 2), Point(3, {"name_ops": 2.0, "read_bytes": 1.0}, 3))
    found = rates(snapshot(history=points))
    assert found["at_ms"] == [1, 2, 3]
    assert found["series"] == {"name_ops": [1.0, None, 2.0], "read_bytes": [None, None, 1.0]}


def test_what_a_dead_master_said_last_gives_way_to_what_living_ones_say_now() -> None:
    living = view()
    living.chunks = 12
    masters = {"h:1": gone(Seen(view(own=True), 100.0)), "h:2": Seen(living, 101.0)}
    assert overview(snapshot(masters=masters), 101.0)["chunks"]["total"] == 12
