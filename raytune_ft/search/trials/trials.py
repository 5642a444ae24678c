"""Makes what Ray Tune runs as a trial, for each runner."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.execution.cluster import check_resources, joining_s
from raytune_ft.execution.devices import LaneNodes
from raytune_ft.execution.lanes.lanes import lane_count, lanes
from raytune_ft.paths import RunDirectory
from raytune_ft.training.lane.orders import RunLane

PROXY_RETRIES = 10
"""How often a proxy that died, as with its node, is started again; its trial goes on training meanwhile."""
NOTICES_S = 5.0


@dataclass(frozen=True)
class Trials:
    """How Ray Tune's trials train.

    Attributes:
        trainable: The trainable that Tune runs.
        ended: Is called with the name of each trial that Tune is done with.
        room: Returns how many trials can train now.
        tune: Further settings for Tune's `TuneConfig`.
        callbacks: Further callbacks for Tune.
        max_failures: How often Tune starts a trial's process again.
        groups: Number of worker groups that all trials share; 0 where each trial has its own.
        away: Returns the numbers of those groups that hold no workers now.
        notices: Returns the lines for the user that have come since the last call.
    """

    trainable: Any
    ended: Callable[[str], object]
    room: Callable[[], int]
    tune: dict[str, Any] = field(default_factory=dict)
    callbacks: tuple[Any, ...] = ()
    max_failures: int = 0
    groups: int = 0
    away: Callable[[], frozenset[int]] = frozenset
    notices: Callable[[], list[str]] = list


@contextmanager
def trials_on(
    runner: Lane | Isolated,
    experiment: Experiment,
    run: RunDirectory,
    run_lane: RunLane | None = None,
    *,
    own: bool = False,
    nodes: LaneNodes | None = None,
) -> Iterator[Trials]:
    """Yields what Tune runs; lanes run for the length of the block.

    Args:
        runner: The runner, as `choose_runner` returns it.
        experiment: The experiment, with a `search` section.
        run: The run directory.
        run_lane: The lanes' training loop; None for the real one.
        own: Whether Ray was started for this block, and ends after it.
        nodes: The nodes that lanes may run on; None where any may.
    """
    if isinstance(runner, Isolated):
        yield isolated(experiment, run)
        return
    count = lane_count(experiment, runner)
    with lanes(_plain(experiment), runner, run, count, run_lane, own=own, nodes=nodes) as dispatcher:
        yield on_lanes(experiment, run, dispatcher, count)


def check_room(runner: Lane | Isolated, experiment: Experiment) -> None:
    """Waits for the cluster's nodes; raises InputError if they can't hold what trains at once."""
    check_resources(experiment, joining_s(), lanes=None if isinstance(runner, Isolated) else runner.lanes or 1)


def isolated(experiment: Experiment, run: RunDirectory) -> Trials:
    """Returns trials that each have workers of their own."""
    from raytune_ft.search.trials.trial import run_tune_trial

    trainable = partial(
        run_tune_trial, experiment=_plain(experiment).model_dump(mode="json"), run=str(run.root), cwd=str(Path.cwd())
    )
    return Trials(trainable, lambda trial: None, lambda: sys.maxsize)


def on_lanes(experiment: Experiment, run: RunDirectory, dispatcher: Any, count: int) -> Trials:
    """Returns trials that the dispatcher's `count` lanes train, each with a light proxy."""
    from ray import tune

    from raytune_ft.search.trials.interrupt import ReleaseProxies
    from raytune_ft.search.trials.lane_demand import LaneDemand
    from raytune_ft.search.trials.lane_trial import LaneTrial, Study
    from raytune_ft.search.trials.lanes_kept import LanesKept

    kept = LanesKept(dispatcher, run)
    study = Study(_plain(experiment).model_dump(mode="json"), run, str(Path.cwd()), dispatcher)
    return Trials(
        tune.with_parameters(LaneTrial, study=study),
        dispatcher.drop.remote,
        LaneDemand(dispatcher, count, experiment),
        {"reuse_actors": True},
        (ReleaseProxies(dispatcher), kept),
        PROXY_RETRIES,
        count,
        lambda: kept.away,
        partial(_notices, dispatcher),
    )


def _notices(dispatcher: Any) -> list[str]:
    import ray

    try:
        lines: list[str] = ray.get(dispatcher.notices.remote(), timeout=NOTICES_S)
    except ray.exceptions.RayError:  # the dispatcher starts, is busy or ends
        return []
    return lines


def _plain(experiment: Experiment) -> Experiment:
    """Returns the experiment without the study's storage, whose URL may hold a password."""
    search = experiment.search
    return experiment.model_copy(update={"search": search and search.model_copy(update={"storage": None})})
