"""The planners' loop: it tells each new leader how to heal, also when nothing is to be done."""

import time
from typing import Any, cast

from mooseng_py.config import MasterConfig, load
from mooseng_py.master.loop import PlannerLoop
from mooseng_py.native import Node, method
from mooseng_py.observe.logs import Log
from mooseng_py.proto.cluster_pb2 import ClusterView, Intents, IntentsReply


class LeadingNode:
    """A healthy cluster's leader, in the term it is given."""

    def __init__(self) -> None:
        self.term = 4
        self.views = 0
        self.intents: list[Intents] = []

    def status(self) -> dict[str, Any]:
        return {"is_leader": True}

    def call(self, number: int, message: bytes) -> bytes:
        if number == method("View"):
            self.views += 1
            return ClusterView(term=self.term, is_leader=True, copies=3).SerializeToString()
        assert number == method("Intents")
        self.intents.append(Intents.FromString(message))
        return IntentsReply().SerializeToString()

    def wait_for_rounds(self, count: int) -> None:
        wanted, deadline = self.views + count, time.monotonic() + 10
        while self.views < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_each_term_is_told_once_how_to_heal_when_nothing_else_is_to_be_done() -> None:
    node = LeadingNode()
    flags = {"node_id": "1", "data_dir": "/d", "cluster_id": "c", "plan_interval_ms": "50", "heal_delay_ms": "1500"}
    config = load(MasterConfig, flags=flags | {"heals_per_server": "3"})
    loop = PlannerLoop(config, cast(Node, node), Log("test", "console", "error"))
    try:
        node.wait_for_rounds(3)
        assert [told.expected_term for told in node.intents] == [4]
        node.term = 5
        node.wait_for_rounds(3)
    finally:
        loop.stop()
    assert [told.expected_term for told in node.intents] == [4, 5]
    assert {(told.policy.heal_delay_ms, told.policy.heals_per_server) for told in node.intents} == {(1500, 3)}
    assert all(told.policy.expired_at_once and told.policy.purged_at_once for told in node.intents)
