"""Which lane gets the next trial."""

from __future__ import annotations

from collections.abc import Mapping

from raytune_ft.execution.lanes.entries import LaneEntry, TrialEntry


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
