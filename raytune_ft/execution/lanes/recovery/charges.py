"""What the end of a lane's workers is to the trials that they trained."""

from __future__ import annotations

from raytune_ft.execution.lanes.entries import Cause, Death, TrialEntry
from raytune_ft.training.outcome import OutcomeKind

FREE_LOSSES = 5
"""Lanes that a trial may lose between two of its reports, before it is suspected of having to do with it."""


def charged(cause: Cause, losses: int) -> bool:
    """Whether a trial may have to do with the end of the workers that trained it.

    Args:
        cause: The kind of that end.
        losses: Lanes that were lost with the trial since its last report, this one included.
    """
    return cause in (Cause.raised, Cause.died) or (cause is Cause.lost and losses > FREE_LOSSES)


def goes_on(trial: TrialEntry, death: Death, max_failures: int, *, alone: bool) -> bool:
    """Notes the death in the trial, and ends the trial where it may not go on; returns whether it may.

    Args:
        trial: One that the workers trained.
        death: Why the workers are no more.
        max_failures: Deaths that it may be charged with.
        alone: Whether they trained no other.
    """
    trial.losses += death.cause is Cause.lost
    if not charged(death.cause, trial.losses):
        return True
    trial.restarts += 1
    trial.suspect = True
    if death.kind is OutcomeKind.out_of_memory and alone:
        trial.end(death.kind, death.reason)  # it would need as much again
        return False
    if trial.restarts > max_failures:
        allowed = f"resources.max_failures {max_failures} allows no more"
        trial.end(death.kind, f"its workers died {trial.restarts} time(s), {allowed}; {death.reason}")
        return False
    return True
