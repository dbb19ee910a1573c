"""What the leader should do next: pure functions from a view of the cluster to intents. No clock, no I/O, no memory.

Same view, same plan. The leader checks each intent against the committed state before it acts on it.
"""

from .clearing import ClearingPace
from .healing import HealingBudget, plan_healing
from .orphans import plan_deletion
from .plan import PlannerSettings, plan
from .weights import plan_weights

__all__ = ["ClearingPace", "HealingBudget", "PlannerSettings", "plan", "plan_deletion", "plan_healing", "plan_weights"]
