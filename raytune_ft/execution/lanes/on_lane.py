"""The `lane` runner for a single trial, without a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raytune_ft.config.training import Lane
from raytune_ft.errors import LanesLost
from raytune_ft.execution.devices import LaneNodes
from raytune_ft.execution.lanes.entries import Message, TrialEnded, TrialReport
from raytune_ft.execution.lanes.lanes import lanes
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import Start
from raytune_ft.training.outcome import Outcome
from raytune_ft.training.spec import TrialSpec

WAIT_S = 5.0


def run_on_lane(
    spec: TrialSpec,
    runner: Lane,
    run: RunDirectory,
    reported: Callable[[dict[str, Any]], None],
    *,
    own: bool = False,
    nodes: LaneNodes | None = None,
    log: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Trains `spec` on a lane of its own and returns how it ended; never raises for the trial's own failure.

    Args:
        spec: The trial. A second call goes on from its last whole checkpoint.
        runner: The lane's settings.
        run: The run directory.
        reported: Is called with each report.
        own: Whether Ray was started for this trial, and ends after it.
        nodes: The nodes that its lane may run on; None where any may.
        log: Is called with lines about the lane.

    Raises:
        LanesLost: No lane can be started; the trial has not ended, and a second call goes on with it.
    """
    import ray

    with lanes(spec.experiment, runner, run, 1, own=own, nodes=nodes) as dispatcher:
        ray.get(dispatcher.submit.remote(Start(spec), "driver", 0))
        while True:
            event: Message | None = ray.get(dispatcher.next_event.remote(spec.trial_id, WAIT_S))
            for line in ray.get(dispatcher.notices.remote()):
                log(line)
            if event is None and (why := ray.get(dispatcher.now.remote()).given_up):
                raise LanesLost(str(run.root), why)
            if isinstance(event, TrialReport):
                reported(event.metrics)
                ray.get(dispatcher.go_on.remote(spec.trial_id))
            elif isinstance(event, TrialEnded):
                if Outcome.read(spec.directory) is None:  # the scheduler ended it, not a lane
                    event.outcome.write(spec.directory)
                return event.outcome
