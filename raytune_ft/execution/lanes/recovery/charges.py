"""Decides which trials are charged with the end of their lane's workers, and which may go on."""

from __future__ import annotations

from raytune_ft.execution.lanes.entries import Cause, Death, TrialEntry
from raytune_ft.training.outcome import OutcomeKind

FREE_LOSSES = 5
"""How many lanes may be lost with a trial between two of its reports before it is suspected of causing that."""


def charged(cause: Cause, losses: int) -> bool:
    """Returns whether a trial may have caused the end of the workers that trained it.

    Args:
        cause: Why the workers ended.
        losses: How many lanes were lost with the trial since its last report, this one included.
    """
    return cause in (Cause.raised, Cause.died) or (cause is Cause.lost and losses > FREE_LOSSES)


def goes_on(trial: TrialEntry, death: Death, max_failures: int, *, alone: bool) -> bool:
    """Notes the death in the trial, and ends the trial where it may not go on; returns whether it may.

    Args:
        trial: A trial that the workers trained.
        death: Why the workers ended.
        max_failures: With how many deaths a trial may be charged and still go on.
        alone: Whether the workers trained no other trial.
    """
    trial.losses += death.cause is Cause.lost
    if not charged(death.cause, trial.losses):
        return True
    trial.restarts += 1
    trial.suspect = True
    if death.kind is OutcomeKind.out_of_memory and alone:
        trial.end(death.kind, death.reason)  # it would need as much memory again
        return False
    if trial.restarts > max_failures:
        allowed = f"resources.max_failures {max_failures} allows no more"
        trial.end(death.kind, f"its workers died {trial.restarts} time(s), {allowed}; {death.reason}")
        return False
    return True
