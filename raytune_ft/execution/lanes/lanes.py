"""Starts the lanes of a study, and ends them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.execution.cluster import groups_that_fit
from raytune_ft.execution.devices import LaneNodes
from raytune_ft.execution.lanes.lane_host import LaneHost
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import RunLane
from raytune_ft.training.spec import TrialSpec

IMPORTS = ("raytune_ft.execution.local_ray.forked.lanes_first", "raytune_ft.execution.local_ray.forked.lanes_ray")
"""Modules that import what lanes' workers need: the first one all but Ray, the second one Ray."""
CLOSE_S = 8.0
"""Seconds that lanes may take to end by themselves; they look for orders between two steps."""


@contextmanager
def lanes(
    experiment: Experiment,
    runner: Lane,
    run: RunDirectory,
    count: int,
    run_lane: RunLane | None = None,
    *,
    own: bool = False,
    nodes: LaneNodes | None = None,
) -> Iterator[Any]:
    """Keeps `count` lanes running for the length of the block, and ends all of their processes after it.

    Args:
        experiment: The experiment whose base model the lanes load.
        runner: The lanes' settings.
        run: The run directory, in which Ray Train keeps its records.
        count: How many lanes to run.
        run_lane: The training loop; None for the real one.
        own: Whether Ray was started for this block, and ends after it.
        nodes: The nodes that lanes may run on; None where any may.

    Yields:
        Handle of the Dispatcher.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from raytune_ft.execution.lanes.dispatcher import Dispatcher

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    resources = experiment.resources
    # This resolves the base model's path: workers run in another directory.
    counted = runner.model_copy(update={"lanes": count})
    resolved = TrialSpec.of("", {}, experiment, run).experiment.model_copy(update={"runner": counted})
    dispatcher: Any = ray.remote(Dispatcher)
    dispatcher = dispatcher.options(num_cpus=0, scheduling_strategy=here).remote(
        count, resources.max_failures, resources.outage_timeout_s
    )
    host = LaneHost(resolved, run.root / "lanes", dispatcher, run_lane, own, None if own else nodes)
    try:
        ray.get(dispatcher.open.remote(host))
        yield dispatcher
    finally:
        try:
            _close(dispatcher, own)
        finally:
            ray.kill(dispatcher)  # this ends Ray Train's controllers too, and these end the workers


def lane_count(experiment: Experiment, runner: Lane) -> int:
    """Returns how many lanes a study gets: as many as the settings say, or as the cluster holds now; at least one."""
    if runner.lanes is not None:
        return runner.lanes
    return max(1, min(groups_that_fit(experiment), experiment.search.max_concurrent if experiment.search else 1))


def _close(dispatcher: Any, own: bool) -> None:
    import ray

    with contextlib.suppress(ray.exceptions.RayError):  # what does not end by itself is killed next
        # A private Ray's processes are all ended next, so waiting a second for them would be lost time.
        ray.get(dispatcher.close.remote(CLOSE_S, processes=not own), timeout=CLOSE_S + 5.0)
