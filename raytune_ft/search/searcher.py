"""Ray Tune's searcher over our study. Ray's own OptunaSearch calls a pruned trial COMPLETE and a failed one RUNNING."""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import optuna
from ray.tune.search import Searcher

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search import Search
from raytune_ft.search.space import suggest
from raytune_ft.search.study import tell, trial_name
from raytune_ft.training.outcome import Outcome

PARAMETERS = "parameters"
TRIAL = "trial"


class StudySearcher(Searcher):
    """Hands out configurations, records every report, and tells the study each trial's outcome.

    Args:
        study: The study to ask and tell.
        experiment: Whose values stand where the space is silent.
        search: The space.
        wanted: Trials to hand out at most.
        interrupted: Trials of a killed driver; they are handed out again first, under their own numbers.
        outcome_of: How the trial of that name ended; called when Tune is done with it.
        room: How many trials may run now; asked before each is handed out.
        curve_of: All reports of the trial of that name that has a checkpoint to them.
    """

    def __init__(
        self,
        study: optuna.Study,
        experiment: Experiment,
        search: Search,
        wanted: int,
        interrupted: list[optuna.Trial],
        outcome_of: Callable[[str, dict[str, Any] | None], Outcome],
        room: Callable[[], int] = lambda: sys.maxsize,
        curve_of: Callable[[str], list[dict[str, Any]]] = lambda name: [],
    ) -> None:
        super().__init__(metric=search.metric, mode=search.mode)
        self._study, self._search = study, search
        self._defaults = experiment.model_dump(mode="json")
        self._left = wanted
        self._interrupted = deque(interrupted)
        self._outcome_of, self._room, self._curve_of = outcome_of, room, curve_of
        self._running: dict[str, optuna.Trial] = {}
        self._known: dict[int, set[int]] = {  # trial's number -> steps that the study has; asking it takes ever longer
            trial.number: set(trial.storage.get_trial(trial._trial_id).intermediate_values) for trial in interrupted
        }

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher, and a sweep is resumed from its study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        if self._left <= 0:
            return str(Searcher.FINISHED)
        if self._running and len(self._running) >= self._room():
            return None  # Tune asks again
        self._left -= 1
        trial = self._interrupted.popleft() if self._interrupted else self._study.ask()
        self._running[trial_id] = trial
        parameters = suggest(trial, self._search.space, self._defaults)
        return {TRIAL: trial_name(trial.number), PARAMETERS: parameters}

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial := self._running.get(trial_id):
            self._record(trial, result)

    def _record(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        value = result.get(self._search.metric)
        if value is not None and "step" in result and math.isfinite(value):
            known, step = self._known.setdefault(trial.number, set()), int(result["step"])
            if step not in known:
                known.add(step)
                trial.report(float(value), step)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial = self._running.pop(trial_id, None)
        if trial is not None:
            self._record(trial, result or {})  # the report at which the scheduler stops a trial comes only here
            outcome = self._outcome_of(trial_name(trial.number), result)
            for report in self._curve_of(trial_name(trial.number)):  # a driver that was killed may have missed some
                self._record(trial, report)
            tell(self._study, trial, outcome)
            self._known.pop(trial.number, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk, and a resumed sweep is built from it."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its study; use `raytune-ft sweep --resume`")
