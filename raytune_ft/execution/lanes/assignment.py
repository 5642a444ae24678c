"""Which lane gets the next trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from raytune_ft.execution.lanes.entries import LaneEntry, TrialEntry

SPREAD_S = 30.0
"""A trial is not packed beside another for so long while a lane that could have it alone is still starting."""


def lane_for(
    trial: TrialEntry, lanes: Mapping[int, LaneEntry], trials: Mapping[str, TrialEntry], *, share: bool
) -> int | None:
    """The number of the lane with room that has least to do, or None; a suspect shares with nobody.

    Args:
        trial: The one that is next.
        lanes: All that there are.
        trials: All that are known, by their names.
        share: Whether it may be packed beside another trial now.
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
    """Whether a lane that could have a trial alone is starting, and is waited for.

    Args:
        lanes: All that there are.
        since_s: Seconds since the first of them was ready.
    """
    return since_s < SPREAD_S and any(not (lane.credit or lane.starts_without_use) for lane in lanes)
