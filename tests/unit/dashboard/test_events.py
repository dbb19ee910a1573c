"""Events are told from what two looks showed, and from nothing else."""

from __future__ import annotations

from dataclasses import fields, replace

from hypothesis import given
from hypothesis import strategies as st

from mooseng_py.dashboard.events import JOIN_MS, Event, Facts, differences, join

WELL = Facts(
    leader="master-1",
    term=3,
    masters={"master-1": True, "master-2": True},
    servers={"chunkserver-1": True},
    disks={"chunkserver-1 /d": (True, "ok")},
    clients={"client-1": True},
    processes={"master-1": 10.0, "chunkserver-1": 11.0},
    sessions={1: "client-1"},
    under_replicated=0,
    missing=0,
    healing=0,
    heals={"master-1": {"ok": 2.0, "failed": 0.0}},
    bad_blocks={"chunkserver-1": 0.0},
)


def told(before: Facts, now: Facts) -> list[tuple[str, str]]:
    return [(event.severity, event.text) for event in differences(before, now, 5)]


def test_nothing_that_changed_is_nothing_told() -> None:
    assert differences(WELL, WELL, 5) == []


def test_a_change_of_leader_names_both_and_the_term() -> None:
    assert told(WELL, replace(WELL, leader="master-2", term=4)) == [
        ("warning", "master-2 leads in term 4, after master-1")
    ]
    assert told(WELL, replace(WELL, leader="")) == [("bad", "master-1 leads no longer; no master leads")]
    assert told(replace(WELL, leader=""), WELL) == [("good", "master-1 leads in term 3")]
    assert told(WELL, replace(WELL, term=5)) == [("info", "master-1 was elected again, in term 5")]


def test_nodes_that_go_and_come_are_told_once_each_way() -> None:
    gone = replace(
        WELL,
        masters={"master-1": True, "master-2": False},
        servers={"chunkserver-1": False},
        clients={"client-1": False},
    )
    assert told(WELL, gone) == [
        ("bad", "master-2 does not answer"),
        ("bad", "chunkserver-1 is down: the leader does not hear it"),
        ("warning", "client-1 does not serve"),
    ]
    assert told(gone, gone) == []
    assert [severity for severity, _ in told(gone, WELL)] == ["good", "good", "good"]


def test_a_disk_that_fails_and_a_server_that_is_new_are_told() -> None:
    assert told(WELL, replace(WELL, disks={"chunkserver-1 /d": (False, "failed: EIO")})) == [
        ("bad", "disk chunkserver-1 /d is failed: EIO (was ok)")
    ]
    assert told(WELL, replace(WELL, servers={**WELL.servers, "chunkserver-2": True})) == [
        ("good", "chunkserver-2 is new")
    ]
    assert told(replace(WELL, servers={}), WELL) == []  # the first time that servers are seen at all


def test_chunks_in_danger_lost_and_whole_again() -> None:
    endangered = replace(WELL, under_replicated=2, healing=1)
    assert told(WELL, endangered) == [("warning", "2 chunks with too few copies"), ("info", "making copies anew")]
    lost = replace(WELL, under_replicated=1, missing=1)
    assert ("bad", "1 chunk without any live copy") in told(WELL, lost)
    assert told(lost, WELL) == [("good", "every chunk has all its copies again")]
    assert told(lost, replace(lost, missing=0)) == [("good", "every chunk has a live copy again")]


def test_sessions_come_and_go() -> None:
    assert told(WELL, replace(WELL, sessions={1: "client-1", 7: "backup"})) == [
        ("info", "backup connected (session 7)")
    ]
    assert told(WELL, replace(WELL, sessions={})) == [("info", "client-1 is gone (session 1)")]


def test_counters_of_a_new_process_tell_nothing_of_what_happened_since() -> None:
    more = replace(WELL, heals={"master-1": {"ok": 5.0, "failed": 1.0}}, bad_blocks={"chunkserver-1": 2.0})
    assert told(WELL, more) == [
        ("good", "3 copies were made"),
        ("warning", "one copy failed; it is tried again"),
        ("bad", "2 stored blocks were wrong"),
    ]
    anew = replace(more, processes={"master-1": 99.0, "chunkserver-1": 99.0})
    assert [text for _, text in told(WELL, anew)] == ["master-1 was started anew", "chunkserver-1 was started anew"]


def test_counts_that_come_bit_by_bit_are_one_event() -> None:
    def made(count: int, at_ms: int) -> Event:
        return Event(at_ms, "copies made", "good", "chunks", "x", count)

    joined = join(made(2, 1000), made(3, 3000))
    assert joined is not None
    assert (joined.text, joined.at_ms) == ("5 copies were made", 3000)
    assert join(made(2, 0), made(3, JOIN_MS + 1)) is None
    assert join(None, made(1, 0)) is None
    assert join(Event(0, "leader", "good", "m", "x"), Event(1, "leader", "good", "m", "y")) is None


@given(st.sets(st.sampled_from([field.name for field in fields(Facts)])))
def test_what_a_look_did_not_show_is_no_event(unknown: set[str]) -> None:
    """A look that found less is compared with one that found everything, both ways."""
    empty = Facts()
    less = replace(WELL, **{name: getattr(empty, name) for name in unknown - {"term"}})
    # What is not known is not told as new when it is seen again: only the first sight of a server's siblings is.
    assert differences(WELL, less, 5) == []
    assert differences(less, WELL, 5) == []
