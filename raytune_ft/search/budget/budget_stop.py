"""Ends a study whose budget is used up: no new trial starts, and each running one ends at its next report.

Read against ray 2.60's TuneController: it asks the stopper before the scheduler, and the scheduler for a trial to run
before it starts any; a trial that is paused or pending is ended by the scheduler, which gets the controller.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ray.tune import Callback, Stopper

from raytune_ft.config.search.budget import Budget
from raytune_ft.paths import RunDirectory
from raytune_ft.search.budget.spent import Meter, shared_group, used_up
from raytune_ft.search.study.searcher import TRIAL
from raytune_ft.training.metrics_log import read_metrics

if TYPE_CHECKING:
    from raytune_ft.search.trials.trials import Trials

_WAITING = ("PENDING", "PAUSED")


class BudgetStop(Stopper):
    """Tells Tune when the budget is used up; its reason stays the first limit that was reached.

    Args:
        budget: The limits.
        meter: Counts what is used up.
    """

    def __init__(self, budget: Budget, meter: Meter) -> None:
        self._budget, self._meter = budget, meter
        self._reason: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its stopper, but a sweep is resumed from its study."""
        return {}

    @property
    def reason(self) -> str | None:
        """Which limit was reached, in words, or None."""
        if self._reason is None:
            self._reason = used_up(self._budget, self._meter.spent)
        return self._reason

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Counts the report, and returns whether the trial ends with it; Tune asks before anyone sees the report."""
        self._meter.reported(str(result.get("config", {}).get(TRIAL)), result)
        return self.reason is not None

    def stop_all(self) -> bool:
        """Returns False always: True would end trials between two reports."""
        return False

    def watch(self, scheduler: Any) -> None:
        """Makes `scheduler` end waiting trials, and start no more, once the budget is used up."""
        choose: Callable[[Any], Any] = scheduler.choose_trial_to_run

        def choose_within_budget(controller: Any) -> Any:
            if self.reason is None:
                return choose(controller)
            while waiting := [trial for trial in controller.get_trials() if trial.status in _WAITING]:
                for trial in waiting:
                    controller.stop_trial(trial)
            return None

        scheduler.choose_trial_to_run = choose_within_budget


class Metering(Callback):
    """Tells the meter when trials end, and when worker groups start and end; runs in the driver.

    Args:
        meter: Counts what the study uses.
        run: The run directory, with the trials' reports.
        trials: How trials train: each with a worker group of its own, or on groups that all share.
    """

    def __init__(self, meter: Meter, run: RunDirectory, trials: Trials) -> None:
        self._meter, self._run = meter, run
        self._own_groups, self._away_now = not trials.groups, trials.away
        self._away: frozenset[int] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its callbacks, but a sweep is resumed from its study."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Stops counting the devices of lanes that an outage took, until these are back."""
        away = self._away_now()
        for number in away - self._away:
            self._meter.group_down(shared_group(number))
        for number in self._away - away:
            self._meter.group_up(shared_group(number))
        self._away = away

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        if self._own_groups:
            self._meter.group_up(trial.config[TRIAL])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._over(trial.config)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._over(trial.config)

    def _over(self, config: Mapping[str, Any]) -> None:
        for report in read_metrics(self._run.trial(config[TRIAL]).metrics)[-1:]:  # Tune never sees a diverged one's
            self._meter.reported(config[TRIAL], report)
        self._meter.ended(config[TRIAL])
        if self._own_groups:
            self._meter.group_down(config[TRIAL])
