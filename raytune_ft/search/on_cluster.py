"""The cluster of a sweep, from its start to its end: what was decided there, and what trains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Isolated, Lane
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.execution.devices import Decision, decide_number_type
from raytune_ft.execution.lanes.lanes import IMPORTS
from raytune_ft.paths import RunDirectory
from raytune_ft.search.budget.accounts import Accounts
from raytune_ft.search.trials.trials import Trials, check_room, trials_on


@dataclass(frozen=True)
class OnCluster:
    """What was decided on the cluster, and what trains there."""

    decision: Decision
    trials: Trials


@contextmanager
def on_cluster(
    runner: Lane | Isolated,
    experiment: Experiment,
    run: RunDirectory,
    accounts: Accounts,
    log: Callable[[str], None],
) -> Iterator[OnCluster]:
    """Ray, the number type that its devices are fast in, and what trains there, for the length of the block.

    Raises:
        InputError: The cluster has no room, or a limited cost has no price.
    """
    isolated = isinstance(runner, Isolated)
    with ray_cluster(state_api=isolated, forked=None if isolated else IMPORTS) as own:
        accounts.price()
        check_room(runner, experiment)
        decision = decide_number_type(experiment, log, isolated=isolated)
        training = trials_on(runner, decision.experiment, run, own=own, nodes=decision.nodes)
        with training as trials, accounts.groups(trials.groups):
            yield OnCluster(decision, trials)
