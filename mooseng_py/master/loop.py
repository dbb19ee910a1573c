"""Runs the planners on the leader, round after round. Acts on nothing itself: the native leader carries intents out."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from mooseng_py.config import MasterConfig
from mooseng_py.errors import MooseError
from mooseng_py.native import method
from mooseng_py.observe.logs import Log
from mooseng_py.proto.cluster_pb2 import ClusterView, Intents, IntentsReply, ViewRequest

from .policy import HealingBudget, PlannerSettings, plan
from .policy.plan import is_empty

if TYPE_CHECKING:
    from mooseng_py.native import Node

_VIEW, _INTENTS = method("View"), method("Intents")
_REQUEST = ViewRequest(with_chunks=True).SerializeToString()


class PlannerLoop:
    """A thread that plans every `plan_interval_ms` while this master leads."""

    def __init__(self, config: MasterConfig, node: Node, log: Log) -> None:
        self._node = node
        self._log = log
        self._interval_s = config.plan_interval_ms / 1000
        self._settings = PlannerSettings(
            healing=HealingBudget.of(heals_per_server=config.heals_per_server, down_ms=config.heal_delay_ms),
            orphan_delay_ms=config.orphan_delay_s * 1000,
        )
        self._told_term = 0
        self._counts: Counter[str] = Counter()
        self._complaint = ""
        self._repairing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="planners", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """No intent is sent afterwards."""
        self._stopping.set()
        self._thread.join()

    def samples(self) -> list[tuple[str, list[tuple[str, str]], float]]:
        """For /metrics."""
        counts = dict(self._counts)
        kinds = ("weight", "heal", "drop", "delete")
        rounds: list[tuple[str, list[tuple[str, str]], float]] = [
            ("mooseng_planner_rounds_total", [], float(counts.get("rounds", 0))),
            ("mooseng_planner_failures_total", [], float(counts.get("failures", 0))),
        ]
        return rounds + [
            ("mooseng_planner_intents_total", [("kind", kind)], float(counts.get(kind, 0))) for kind in kinds
        ]

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self._round()
                self._complaint = ""
            except MooseError as error:
                self._counts["failures"] += 1
                self._complain(error.strerror or str(error))
            except Exception as error:  # noqa: BLE001  # one bad round must not end healing; it is logged, counted, tried again
                self._counts["failures"] += 1
                self._complain(f"{type(error).__name__}: {error}")

    def _round(self) -> None:
        if not self._node.status().get("is_leader"):
            return
        view = ClusterView.FromString(self._node.call(_VIEW, _REQUEST))
        if not view.is_leader:
            return
        self._counts["rounds"] += 1
        intents = plan(view, self._settings)
        self._tell(view, intents)
        if (is_empty(intents) and view.term == self._told_term) or self._stopping.is_set():
            return
        self._count(intents)
        reply = IntentsReply.FromString(self._node.call(_INTENTS, intents.SerializeToString()))
        if reply.HasField("error"):
            self._complain(reply.error.message)
        else:
            self._told_term = view.term

    def _tell(self, view: ClusterView, intents: Intents) -> None:
        """When repairs begin, and when nothing is left to repair; not each round in between."""
        busy = bool(intents.heal or intents.drop or view.healing)
        if busy and not self._repairing:
            self._log.info("repairs begin", too_few_copies=view.under_replicated, without_copies=view.missing)
        elif self._repairing and not busy:
            self._log.info("repairs end", too_few_copies=view.under_replicated, without_copies=view.missing)
        self._repairing = busy

    def _count(self, intents: Intents) -> None:
        self._counts.update(
            weight=len(intents.weights), heal=len(intents.heal), drop=len(intents.drop), delete=len(intents.delete)
        )

    def _complain(self, reason: str) -> None:
        """Once per reason, not twice a second."""
        if reason != self._complaint:
            self._complaint = reason
            self._log.warn("a planning round failed, trying again", reason=reason)
