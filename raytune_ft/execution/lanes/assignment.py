"""Decides which lane gets the next trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raytune_ft.execution.lanes.entries import LaneEntry, TrialEntry

SPREAD_S = 30.0
"""Seconds during which no trial is packed beside another while a lane that could train it alone is still starting."""


def lane_for(
    trial: TrialEntry, lanes: Mapping[int, LaneEntry], trials: Mapping[str, TrialEntry], *, share: bool
) -> int | None:
    """Returns the number of the lane with room that has the fewest trials; a suspect trial shares a lane with no other.

    Args:
        trial: The next trial of the queue.
        lanes: All lanes, by their numbers.
        trials: All known trials, by their names.
        share: Whether the trial may be packed beside another one now.

    Returns:
        None where no lane may have the trial now.
    """
    loads = {
        number: len(lane.trials)
        for number, lane in lanes.items()
        if lane.listens and lane.credit > lane.handed
        if not (lane.trials and (trial.suspect or any(trials[other].suspect for other in lane.trials)))
    }
    if not loads:
        return None
    number = min(loads, key=lambda each: (loads[each], each))
    return number if share or not loads[number] else None


def one_still_starts(lanes: Iterable[LaneEntry], since_s: float) -> bool:
    """Returns whether to wait for a lane that is still starting and could train a trial alone.

    Args:
        lanes: All lanes.
        since_s: Seconds since the first lane was ready.
    """
    return since_s < SPREAD_S and any(not (lane.credit or lane.starts_without_use) for lane in lanes)
