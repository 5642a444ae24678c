"""Limits how many trials train at once, under any scheduler. Tune's own limit counts paused trials too: a synchronous
scheduler's search would end at the first trial that waits for the second.

Read against ray 2.60's TuneController: it first asks the searcher for a trial, then the scheduler which one to run,
and starts every pending one; so a trial may become pending only when it can train.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler


class Pace(TrialScheduler):
    """Wraps a scheduler, so that at most `at_once` trials train at a time; all other decisions are the wrapped one's.

    Args:
        scheduler: The wrapped scheduler. One that pauses trials may have a method `waiting()`, which returns whether it
            would run a paused trial now.
        at_once: How many trials may train at once.
    """

    def __init__(self, scheduler: Any, at_once: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._inside, self._at_once = scheduler, at_once
        self._metric = scheduler.metric
        self._waiting: Callable[[], bool] = getattr(scheduler, "waiting", lambda: False)
        self._trials: dict[str, Trial] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its scheduler, but a sweep is resumed from its study."""
        return {}

    @property
    def supports_buffered_results(self) -> bool:
        return False

    def busy(self) -> int:
        """Returns how many trials train or are about to."""
        return sum(trial.status in (Trial.RUNNING, Trial.PENDING) for trial in self._trials.values())

    def may_start(self, room: int) -> bool:
        """Returns whether to start a new trial now, if `room` trials can train at once; while none trains, always."""
        busy = self.busy()
        return not (busy and busy >= min(self._at_once, room)) and not self._waiting()

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        return bool(self._inside.set_search_properties(metric, mode, **spec))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if trial.trial_id not in self._trials:  # else the trial's process died, and a new one takes its place
            self._trials[trial.trial_id] = trial
            self._inside.on_trial_add(tune_controller, trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        if trial.status != Trial.ERROR:  # the trial is in this state while Tune restarts it
            self._over(trial)
            self._inside.on_trial_error(tune_controller, trial)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return str(self._inside.on_trial_result(tune_controller, trial, result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        self._over(trial)
        self._inside.on_trial_complete(tune_controller, trial, result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        self._over(trial)
        self._inside.on_trial_remove(tune_controller, trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        pending = any(trial.status == Trial.PENDING for trial in self._trials.values())  # it was counted already
        return self._inside.choose_trial_to_run(tune_controller) if pending or self.busy() < self._at_once else None

    def debug_string(self) -> str:
        return str(self._inside.debug_string())

    def _over(self, trial: Any) -> None:
        self._trials.pop(trial.trial_id, None)
