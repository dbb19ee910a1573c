"""The rules by which histories are judged refuse bad ones made by hand, and accept what close-to-open allows."""

from math import inf

import pytest

from tests.sharing.history import BLOCK, TORN, Change, Found, History, Look, Mark, Naming, found

FILE, OTHER = 7, 8


def write(client: int, sequence: int, first: int, count: int, start: float, end: float, stable: float = inf) -> Change:
    return Change("write", client, sequence, FILE, first, count, start, end, stable)


def append(client: int, sequence: int, count: int, start: float, end: float, stable: float = inf) -> Change:
    return Change("append", client, sequence, FILE, -1, count, start, end, stable)


def cut(client: int, sequence: int, size: int, start: float, end: float) -> Change:
    return Change("cut", client, sequence, FILE, size, 0, start, end, end)


def hole(client: int, sequence: int, first: int, count: int, start: float, end: float) -> Change:
    return Change("hole", client, sequence, FILE, first, count, start, end, end)


def of(change: Change, *indexes: int, inode: int = FILE) -> list[Found]:
    return [Mark(inode, index, change.client, change.sequence, change.kind == "append") for index in indexes]


def look(client: int, start: float, end: float, *blocks: Found, size: int | None = None) -> Look:
    return Look(client, FILE, start, end, (len(blocks) if size is None else size) * BLOCK, list(blocks))


def judged(changes: list[Change], *looks: Look) -> str:
    return " | ".join(History(changes=changes, looks=list(looks)).problems())


# Written and synced over blocks 0 to 3 before everything else.
BASE = write(1, 1, 0, 4, 0, 1, stable=2)


def test_a_block_says_whose_it_is_and_a_torn_one_that_it_is_torn() -> None:
    one, two = Mark(1, 2, 3, 4, True).block(), Mark(1, 2, 3, 5, True).block()
    assert len(one) == BLOCK
    assert found(one) == Mark(1, 2, 3, 4, True)
    assert found(bytes(BLOCK)) is None
    for bad in (one[:512] + two[512:], one[:-32] + bytes(32), bytes(32) + one[32:], b"x" * BLOCK):
        assert found(bad) == TORN


# ---- what is right ------------------------------------------------------------------------------------------------------
def test_what_was_synced_before_the_open_and_what_may_have_come_since_are_both_right() -> None:
    later = write(2, 1, 1, 1, 3, 4)  # never synced: perhaps there, perhaps not
    assert not judged([BASE, later], look(3, 5, 6, *of(BASE, 0, 1, 2, 3)))
    assert not judged([BASE, later], look(3, 5, 6, *of(BASE, 0), *of(later, 1), *of(BASE, 2, 3)))


def test_a_hole_is_zeros_and_changes_no_size() -> None:
    punched = hole(2, 1, 1, 2, 3, 4)
    assert not judged([BASE, punched], look(3, 5, 6, *of(BASE, 0), None, None, *of(BASE, 3)))
    assert "afterwards came hole" in judged([BASE, punched], look(3, 5, 6, *of(BASE, 0, 1), None, *of(BASE, 3)))
    assert "is zeros" in judged([BASE, punched], look(3, 5, 6, *of(BASE, 0), None, None, None))
    over = write(3, 1, 1, 1, 5, 6, stable=7)
    assert "is zeros" in judged([BASE, punched, over], look(3, 8, 9, *of(BASE, 0), None, None, *of(BASE, 3)))


def test_a_cut_and_a_write_at_the_same_time_may_come_in_either_order() -> None:
    later, short = write(2, 1, 2, 2, 3, 4, stable=5), cut(3, 1, 2, 3.5, 4.5)
    assert not judged([BASE, later, short], look(1, 6, 7, *of(BASE, 0, 1)))
    assert not judged([BASE, later, short], look(1, 6, 7, *of(BASE, 0, 1), *of(later, 2, 3)))


def test_zeros_of_a_hole_and_of_a_growth_are_right() -> None:
    beyond = write(2, 1, 6, 1, 3, 4, stable=5)
    assert not judged([BASE, beyond], look(1, 6, 7, *of(BASE, 0, 1, 2, 3), None, None, *of(beyond, 6)))
    assert not judged([BASE, cut(2, 1, 2, 3, 4), cut(2, 2, 3, 4, 5)], look(1, 6, 7, *of(BASE, 0, 1), None))


def test_a_read_that_a_cut_overlaps_may_be_short() -> None:
    assert not judged([BASE, cut(2, 1, 2, 3, 4)], look(1, 3, 5, *of(BASE, 0, 1), size=4))


def test_what_a_dead_mount_had_seen_of_its_own_may_be_gone() -> None:
    own = write(2, 1, 0, 1, 3, 4)
    history = History(
        [BASE, own],
        [look(2, 5, 6, *of(own, 0), *of(BASE, 1, 2, 3)), look(2, 9, 10, *of(BASE, 0, 1, 2, 3))],
        deaths=[(2, (7, 7))],
    )
    assert "afterwards" in judged(history.changes, *history.looks)
    assert not history.problems()


def test_an_own_append_that_lost_its_turn_to_a_failure_may_wait_for_another_place_until_it_is_synced() -> None:
    own = append(2, 1, 1, 3, 4)
    looks = [look(2, 5, 6, *of(BASE, 0, 1, 2, 3)), look(2, 8, 9, *of(BASE, 0, 1, 2, 3), *of(own, 0))]
    assert "though there came" in judged([BASE, own], *looks)
    assert not History([BASE, own], looks, failures=[(4.5, 4.5)]).problems()
    other = append(1, 2, 1, 3, 4, stable=6.5)
    base = of(BASE, 0, 1, 2, 3)
    moved = [look(2, 5, 6, *base, *of(own, 0)), look(2, 8, 9, *base, *of(other, 0), *of(own, 0))]
    assert "stands at" in judged([BASE, own, other], *moved)
    own.stable = 7
    assert not History([BASE, own, other], moved, failures=[(4.5, 4.5)]).problems()
    own.stable = 4.9
    assert History([BASE, own], looks, failures=[(4.5, 4.5)]).problems()
    assert History([BASE, own, other], moved, failures=[(4.5, 4.5)]).problems()


# ---- what is wrong -----------------------------------------------------------------------------------------------------
def test_a_synced_write_that_a_later_open_does_not_find_is_refused() -> None:
    later = write(2, 1, 1, 1, 3, 4, stable=5)
    assert "afterwards came" in judged([BASE, later], look(3, 6, 7, *of(BASE, 0, 1, 2, 3)))


def test_ones_own_write_counts_at_once() -> None:
    later = write(2, 1, 1, 1, 3, 4)
    assert "afterwards came" in judged([BASE, later], look(2, 6, 7, *of(BASE, 0, 1, 2, 3)))


def test_zeros_where_a_write_after_a_cut_was_synced_are_refused() -> None:
    short, later = cut(2, 1, 1, 3, 4), write(1, 2, 2, 1, 5, 6, stable=7)
    assert "zeros, though" in judged([BASE, short, later], look(3, 8, 9, *of(BASE, 0), None, None))


def test_zeros_where_a_cut_came_between_the_size_and_the_read_are_right_and_later_refused() -> None:
    short = cut(2, 1, 2, 5, 6)
    assert not judged([BASE, short], look(3, 5.5, 7, *of(BASE, 0, 1), None, None))
    assert "nothing made the file longer" in judged([BASE, short], look(3, 6.5, 7, *of(BASE, 0, 1), None, None))


def test_zeros_that_nobody_made_are_refused() -> None:
    more = append(2, 1, 2, 3, 4, stable=9)
    assert "without writing there" in judged([BASE, more], look(3, 5, 6, *of(BASE, 0, 1, 2, 3), None, None))


def test_bytes_behind_a_cut_that_come_back_are_refused() -> None:
    changes = [BASE, cut(2, 1, 1, 3, 4), cut(2, 2, 4, 5, 6)]
    assert not judged(changes, look(3, 7, 8, *of(BASE, 0), None, None, None))
    assert "afterwards came" in judged(changes, look(3, 7, 8, *of(BASE, 0, 1, 2, 3)))


def test_a_reader_that_goes_back_is_refused() -> None:
    later = write(2, 1, 0, 1, 3, 4)
    new, old = look(3, 5, 6, *of(later, 0), *of(BASE, 1, 2, 3)), look(3, 7, 8, *of(BASE, 0, 1, 2, 3))
    assert not judged([BASE, later], old, look(3, 9, 10, *of(later, 0), *of(BASE, 1, 2, 3)))
    assert "went back" in judged([BASE, later], new, old)
    again = History([BASE, later], [new, old], deaths=[(3, (6.5, 6.5))])
    assert "went back" in " ".join(again.problems()), "the death of the reader is no reason for it"


def test_a_reader_may_go_back_from_unsynced_bytes_whose_server_or_writer_failed() -> None:
    later = write(2, 1, 0, 1, 3, 4)
    looks = [look(3, 5, 6, *of(later, 0), *of(BASE, 1, 2, 3)), look(3, 7, 8, *of(BASE, 0, 1, 2, 3))]
    for failed in ({"failures": [(6.5, 6.5)]}, {"deaths": [(2, (6.5, 6.5))]}):
        assert not History([BASE, later], looks, **failed).problems()
    assert History([BASE, later], looks, failures=[(2.5, 2.5), (8.5, 8.5)], deaths=[(2, (8.5, 8.5))]).problems(), (
        "before and after it"
    )
    synced = write(2, 1, 0, 1, 3, 4, stable=6.9)
    assert History([BASE, synced], looks, failures=[(6.5, 6.5)], deaths=[(2, (6.5, 6.5))]).problems()
    own = [look(2, 5, 6, *looks[0].blocks), look(2, 7, 8, *looks[1].blocks)]
    assert History([BASE, later], own, failures=[(6.5, 6.5)]).problems(), "its client sends it again"


def test_a_reader_that_goes_back_to_zeros_is_refused() -> None:
    beyond, inside = write(2, 1, 6, 1, 3, 4, stable=5), write(2, 2, 5, 1, 6, 7)
    whole = (*of(BASE, 0, 1, 2, 3), None)
    seen = look(3, 8, 9, *whole, *of(inside, 5), *of(beyond, 6))
    assert "went back to zeros" in judged([BASE, beyond, inside], seen, look(3, 10, 11, *whole, None, *of(beyond, 6)))


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (TORN, "neither"),
        (Mark(OTHER, 0, 1, 1, False), "another file"),
        (Mark(FILE, 3, 1, 1, False), "nobody wrote there"),
        (Mark(FILE, 0, 1, 99, False), "nobody wrote there"),
        (Mark(FILE, 0, 2, 1, False), "future"),
    ],
)
def test_a_block_that_cannot_be_there_is_refused(block: Found, said: str) -> None:
    future = write(2, 1, 0, 1, 20, 21)
    assert said in judged([BASE, future], look(3, 5, 6, block, *of(BASE, 1, 2, 3)))


def test_what_was_appended_twice_or_moved_or_split_is_refused() -> None:
    more = append(2, 1, 2, 3, 4, stable=5)
    base = of(BASE, 0, 1, 2, 3)
    assert not judged([BASE, more], look(3, 6, 7, *base, *of(more, 0, 1)))
    assert "stands at" in judged([BASE, more], look(3, 6, 7, *base, *of(more, 0, 1, 0, 1)))
    assert "stands at" in judged([BASE, more], look(3, 6, 7, *base, *of(more, 0), None, *of(more, 1)))
    assert judged([BASE, more], look(3, 6, 7, *base, *of(more, 0), None))


def test_an_append_that_was_synced_and_is_nowhere_is_refused() -> None:
    more = append(2, 1, 2, 3, 4, stable=5)
    assert "is nowhere" in judged([BASE, more], look(3, 6, 7, *of(BASE, 0, 1, 2, 3)))
    covering = write(1, 2, 4, 2, 4.5, 8, stable=9)
    assert not judged([BASE, more, covering], look(3, 10, 11, *of(BASE, 0, 1, 2, 3), *of(covering, 4, 5)))


def test_sizes_that_do_not_fit_are_refused() -> None:
    blocks = of(BASE, 0, 1, 2, 3)
    assert "nobody made one" in judged([BASE], Look(3, FILE, 5, 6, 4 * BLOCK - 1, blocks))
    assert "no change made it so" in judged([BASE], look(3, 5, 6, *blocks[:3]))
    assert "though there came" in judged([BASE, write(2, 1, 3, 3, 3, 4, stable=5)], look(3, 6, 7, *blocks))
    assert "were read" in judged([BASE], look(3, 5, 6, *blocks[:2], size=4))


def test_an_open_that_finds_the_file_before_the_one_put_in_its_place_is_refused() -> None:
    placed = [Naming(1, FILE, 0, 1), Naming(2, OTHER, 3, 4)]
    assert not History(placed=placed, opened=[Naming(3, FILE, 3.5, 5), Naming(3, OTHER, 3.5, 5)]).problems()
    assert History(placed=placed, opened=[Naming(3, FILE, 5, 6)]).problems()
    assert History(placed=placed, opened=[Naming(3, OTHER, 1, 2)]).problems()
    assert History(placed=placed, opened=[Naming(3, 99, 5, 6)]).problems()
