"""What a verb is: it can look whether it is done, act, prove what it did, and take it back.

A plan names verbs; it holds no connection and no object of this module. The conductor finds the verb by its
name and gives it the `Ground` that it works on. Every verb may be killed at any instant and run again: `check`
looks at the world (never only at the ledger) before `apply` touches it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from safepoint.config import PlanFile
from safepoint.launch.ground import Ground
from safepoint.launch.step import Evidence, PlannedStep


class Verb:
    """The base of all verbs: nothing to look at, nothing to verify, and nothing to take back."""

    name: ClassVar[str]

    def revert(self, step: PlannedStep) -> PlannedStep | None:
        """The step that takes this one back before the safe point; None where it leaves nothing to take back.

        After the migration began there is one way back for all steps together: see `launch.undo`.
        """
        return None

    def commands(self, plan: PlanFile, params: Mapping[str, Any]) -> tuple[str, ...]:
        """What this would run, for `safepoint plan`. Pure."""
        return ()

    def check(self, ground: Ground) -> Evidence | None:
        """The evidence that this is already done in the world, or None."""
        return None

    def apply(self, ground: Ground) -> Evidence:
        """Do it. Must be safe to run again after being killed anywhere in between."""
        raise TypeError(f"the verb {self.name!r} does not say what it does")

    def verify(self, ground: Ground, evidence: Evidence) -> None:
        """Prove by another look that it is done.

        Raises:
            SafepointError: it is not.
        """
