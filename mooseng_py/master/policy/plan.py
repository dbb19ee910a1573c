"""All policies together: one view in, one message of intents out."""

from __future__ import annotations

from dataclasses import dataclass, field

from mooseng_py.proto.cluster_pb2 import ClusterView, Intents

from .clearing import ClearingPace
from .healing import HealingBudget, plan_healing
from .orphans import plan_deletion
from .weights import plan_weights


@dataclass(frozen=True, slots=True)
class PlannerSettings:
    """What the operator decides."""

    healing: HealingBudget = field(default_factory=HealingBudget)
    clearing: ClearingPace = field(default_factory=ClearingPace)
    orphan_delay_ms: int = 60_000


def plan(cluster: ClusterView, settings: PlannerSettings) -> Intents:
    """What the leader of this view should do now; refused by any other leader."""
    healing = plan_healing(cluster, budget=settings.healing)
    policy = settings.healing.policy()
    policy.MergeFrom(settings.clearing.policy())
    return Intents(
        expected_term=cluster.term,
        weights=plan_weights(cluster),
        heal=healing.heal,
        drop=healing.drop,
        delete=plan_deletion(cluster, delay_ms=settings.orphan_delay_ms),
        policy=policy,
    )


def is_empty(intents: Intents) -> bool:
    """Whether nothing is to be done; the policy, which each message carries, does not count."""
    return not (intents.weights or intents.heal or intents.drop or intents.delete)
