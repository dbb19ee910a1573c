"""What planners may and may not plan, for any cluster that can be seen."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mooseng_py.master.policy import HealingBudget, PlannerSettings, plan, plan_deletion, plan_healing, plan_weights
from mooseng_py.master.policy.healing import cost_bytes
from mooseng_py.master.policy.weights import CHUNK_BYTES
from mooseng_py.proto.cluster_pb2 import (
    DISK_FAILED,
    DISK_FULL,
    DISK_OK,
    DISK_READ_ONLY,
    DISK_UNKNOWN,
    ChunkState,
    ChunkTrouble,
    ClusterView,
    DiskCondition,
    DiskStatus,
    OrphanChunk,
    ServerView,
)

GIB = 1 << 30
IDS = range(1, 6)
_CONDITIONS: list[DiskCondition] = [DISK_OK, DISK_OK, DISK_FULL, DISK_READ_ONLY, DISK_FAILED, DISK_UNKNOWN]


def server(
    number: int, *, up: bool = True, free: int = 100 * GIB, weight: int = 100, condition: DiskCondition = DISK_OK
) -> ServerView:
    return ServerView(
        server_id=number,
        up=up,
        weight=weight,
        inventory_known=up,
        last_seen_ms=0 if up else 60_000,
        disks=[DiskStatus(path="/d", free_bytes=free, condition=condition)],
    )


def trouble(
    chunk: int, servers: list[int], live: list[int], *, bad: Sequence[int] = (), idle_ms: int = 9999
) -> ChunkTrouble:
    # A chunk has one size, whichever way it comes up.
    state = ChunkState(id=chunk, version=3, servers=servers, written=True, stored_bytes=(chunk % 5) << 24)
    return ChunkTrouble(chunk=state, live=live, bad=bad, idle_ms=idle_ms)


def view(servers: list[ServerView], troubled: list[ChunkTrouble], **rest: object) -> ClusterView:
    return ClusterView(term=4, is_leader=True, copies=3, min_copies=2, servers=servers, troubled=troubled, **rest)  # type: ignore[arg-type]


@st.composite
def views(draw: st.DrawFn) -> ClusterView:
    ids = st.sampled_from(list(IDS))
    servers = [
        ServerView(
            server_id=number,
            up=draw(st.booleans()),
            weight=draw(st.sampled_from([0, 1, 50, 100])),
            inventory_known=draw(st.booleans()),
            last_seen_ms=draw(st.sampled_from([0, 5000, 60_000])),
            disks=[
                DiskStatus(
                    free_bytes=draw(st.sampled_from([0, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES, 100 * GIB])),
                    condition=draw(st.sampled_from(_CONDITIONS)),
                )
                for _ in range(draw(st.integers(0, 2)))
            ],
        )
        for number in draw(st.lists(ids, unique=True))
    ]
    troubled = []
    for chunk in draw(st.lists(st.integers(1, 30), max_size=20)):
        members = draw(st.lists(ids, unique=True, min_size=1, max_size=3))
        # What is live and what is bad may also contradict each other: the planner must be safe nevertheless.
        live = draw(st.lists(ids, unique=True, max_size=3))
        bad = draw(st.lists(st.sampled_from(members), unique=True, max_size=3))
        troubled.append(trouble(chunk, members, live, bad=bad, idle_ms=draw(st.sampled_from([0, 999, 1000, 10_000]))))
    healing = [
        ChunkState(id=draw(st.integers(1, 30)), heal_id=1, heal_target=draw(ids))
        for _ in range(draw(st.integers(0, 3)))
    ]
    orphans = [
        OrphanChunk(
            server_id=draw(ids), chunk_id=draw(st.integers(1, 9)), version=1, age_ms=draw(st.integers(0, 90_000))
        )
        for _ in range(draw(st.integers(0, 5)))
    ]
    return view(servers, troubled, healing=healing, orphans=orphans)


budgets = st.builds(
    HealingBudget,
    bytes_per_server=st.sampled_from([64 << 20, 100 << 20]),
    quiet_ms=st.just(1000),
    drops=st.integers(0, 5),
)


def good(found: ChunkTrouble) -> set[int]:
    return set(found.live) & set(found.chunk.servers) - set(found.bad)


@given(views(), budgets)
def test_a_copy_is_never_planned_onto_a_server_of_the_set_or_without_room(
    cluster: ClusterView, budget: HealingBudget
) -> None:
    servers = {server.server_id: server for server in cluster.servers}
    for heal in plan_healing(cluster, budget=budget).heal:
        found = [t for t in cluster.troubled if t.chunk.id == heal.chunk_id]
        assert any(heal.target not in t.chunk.servers and heal.source in good(t) for t in found)
        target = servers[heal.target]
        assert target.up
        assert any(disk.condition == DISK_OK and disk.free_bytes >= CHUNK_BYTES for disk in target.disks)


@given(views(), budgets)
def test_the_last_good_copy_is_never_dropped(cluster: ClusterView, budget: HealingBudget) -> None:
    for drop in plan_healing(cluster, budget=budget).drop:
        found = [t for t in cluster.troubled if t.chunk.id == drop.chunk_id]
        assert any(good(t) - {drop.server_id} for t in found)
        assert not any(drop.server_id in good(t) and drop.server_id not in t.bad for t in found[:1])


@given(views(), budgets)
def test_the_budget_is_kept_and_each_chunk_gets_one_intent(cluster: ClusterView, budget: HealingBudget) -> None:
    healing = plan_healing(cluster, budget=budget)
    for number in IDS:
        cost = {found.chunk.id: cost_bytes(found.chunk) for found in cluster.troubled}
        own = sum(cost[heal.chunk_id] for heal in healing.heal if number in (heal.source, heal.target))
        running = sum(cost_bytes(chunk) for chunk in cluster.healing if chunk.heal_target == number)
        assert own == 0 or own + running <= budget.bytes_per_server
        promised = sum(heal.target == number for heal in healing.heal) * CHUNK_BYTES
        free = sum(
            d.free_bytes for s in cluster.servers if s.server_id == number for d in s.disks if d.condition == DISK_OK
        )
        assert promised <= free
    assert len(healing.drop) <= budget.drops
    touched = [heal.chunk_id for heal in healing.heal] + [drop.chunk_id for drop in healing.drop]
    assert len(touched) == len(set(touched))
    assert not set(touched) & {chunk.id for chunk in cluster.healing}


@given(views())
def test_the_same_view_gives_the_same_plan(cluster: ClusterView) -> None:
    settings = PlannerSettings()
    again = ClusterView.FromString(cluster.SerializeToString())
    assert plan(cluster, settings) == plan(again, settings)
    assert plan(cluster, settings).expected_term == cluster.term


def test_the_most_endangered_chunk_comes_first() -> None:
    cluster = view(
        [server(n) for n in IDS], [trouble(1, [1, 2], [1, 2]), trouble(2, [1], [1]), trouble(3, [2, 3], [2, 3])]
    )
    healing = plan_healing(cluster, budget=HealingBudget())
    assert [heal.chunk_id for heal in healing.heal] == [2, 1, 3]


def test_a_small_chunk_is_copied_also_while_it_is_written_to() -> None:
    cluster = view([server(n) for n in IDS], [trouble(5, [1, 2], [1, 2], idle_ms=10)])
    assert [heal.chunk_id for heal in plan_healing(cluster, budget=HealingBudget()).heal] == [5]


def test_a_large_chunk_that_is_written_to_is_left_alone_unless_one_copy_is_left() -> None:
    cluster = view([server(n) for n in IDS], [trouble(1, [1, 2], [1, 2], idle_ms=10), trouble(2, [1], [1], idle_ms=10)])
    assert [heal.chunk_id for heal in plan_healing(cluster, budget=HealingBudget()).heal] == [2]


def test_a_bad_copy_is_dropped_first_and_made_again_afterwards() -> None:
    servers = [server(n) for n in (1, 2, 3)]
    first = plan_healing(view(servers, [trouble(1, [1, 2, 3], [1, 2], bad=[3])]), budget=HealingBudget())
    assert [(drop.chunk_id, drop.version, drop.server_id) for drop in first.drop] == [(1, 3, 3)]
    assert not first.heal
    second = plan_healing(view(servers, [trouble(1, [1, 2], [1, 2])]), budget=HealingBudget())
    assert [heal.target for heal in second.heal] == [3]


def test_a_server_that_is_gone_keeps_its_place_until_another_can_take_it() -> None:
    gone = server(3, up=False)
    three = [server(1), server(2), gone]
    lost = trouble(1, [1, 2, 3], [1, 2])
    assert not plan_healing(view(three, [lost]), budget=HealingBudget()).drop
    four = plan_healing(view([*three, server(4)], [lost]), budget=HealingBudget())
    assert [drop.server_id for drop in four.drop] == [3]
    gone.last_seen_ms = 500
    assert not plan_healing(view([*three, server(4)], [lost]), budget=HealingBudget()).drop


def test_nothing_is_planned_for_a_chunk_without_a_good_copy() -> None:
    healing = plan_healing(view([server(n) for n in IDS], [trouble(1, [1, 2], [], bad=[1])]), budget=HealingBudget())
    assert (healing.heal, healing.drop) == ([], [])


def test_weights_follow_free_space_and_are_zero_where_nothing_fits() -> None:
    cluster = view(
        [
            server(1, free=100 * GIB, weight=0),
            server(2, free=50 * GIB, weight=0),
            server(3, free=CHUNK_BYTES - 1),
            server(4, condition=DISK_READ_ONLY),
            server(5, up=False, free=0, weight=7),
        ],
        [],
    )
    assert {w.server_id: w.weight for w in plan_weights(cluster)} == {1: 100, 2: 50, 3: 0, 4: 0}


def test_small_changes_of_free_space_are_not_worth_a_log_entry() -> None:
    assert plan_weights(view([server(1), server(2, free=95 * GIB)], [])) == []


def test_only_old_orphans_are_deleted_oldest_first() -> None:
    ages = [59_000, 60_001, 80_000]
    orphans = [OrphanChunk(server_id=1, chunk_id=n, version=2, age_ms=age) for n, age in enumerate(ages)]
    deleted = plan_deletion(view([], [], orphans=orphans), delay_ms=60_000)
    assert [intent.chunk_id for intent in deleted] == [2, 1]


def test_a_server_whose_disks_are_not_known_yet_keeps_its_weight() -> None:
    unheard = server(2, weight=70)
    del unheard.disks[:]
    assert [change.server_id for change in plan_weights(view([server(1), unheard], []))] == []


def test_the_leader_is_told_how_to_heal_and_to_clear_away_with_every_plan() -> None:
    settings = PlannerSettings(healing=HealingBudget.of(heals_per_server=3, down_ms=2500))
    policy = plan(view([server(n) for n in IDS], []), settings).policy
    assert (policy.heal_delay_ms, policy.heals_per_server, policy.heals_running) == (2500, 3, 6)
    assert (policy.expired_at_once, policy.purged_at_once) == (100, 1000)
    # Enough is named that nothing waits for the next round.
    assert settings.healing.bytes_per_server >= 3 * CHUNK_BYTES
