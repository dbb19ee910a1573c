"""Mounts that change one file at random are judged by a model, with and without nodes that die meanwhile."""

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mooseng_py.demo.harness import Cluster
from tests.sharing.campaign import SETTINGS, Plan, Round, replay, seeds_until
from tests.sharing.support import running_cluster

SMOKE_S, CAMPAIGN_S = 12, 600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Sessions of dead mounts end after seconds."""
    yield from running_cluster(tmp_path_factory.mktemp("campaign"), *(one.removeprefix("--set=") for one in SETTINGS))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [False, pytest.param(True, marks=pytest.mark.soak)], ids=["calm", "kills"])
def test_mounts_that_change_one_file_at_random_agree_with_the_model(cluster: Cluster, kills: bool) -> None:
    seeds_until(cluster, 1, SMOKE_S, kills=kills)


@pytest.mark.soak
@pytest.mark.timeout(CAMPAIGN_S + 300)
@pytest.mark.parametrize("kills", [False, True], ids=["calm", "kills"])
def test_mounts_that_change_one_file_for_ten_minutes_agree_with_the_model(cluster: Cluster, kills: bool) -> None:
    first = random.SystemRandom().randrange(1 << 31)
    print(f"{seeds_until(cluster, first, CAMPAIGN_S, kills=kills)} seeds from {first} on")


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="needs a tmpfs, whose inode numbers come once")
def test_the_campaign_holds_on_a_local_file_system_too() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for seed in range(1, 9):
            Round(Plan.of(seed, False), None, [Path(folder)] * 4).run()


def test_a_seed_decides_what_is_done_and_names_the_command_that_does_it_again() -> None:
    assert Plan.of(5, True) == Plan.of(5, True)
    assert len({str(Plan.of(seed, False)) for seed in range(50)}) == 50
    assert {Plan.of(seed, False).mounts for seed in range(50)} == {2, 3, 4}
    assert replay(Plan.of(5, True)) == "PYTHONPATH=. python tests/sharing/campaign.py --seed 5 --kills"
