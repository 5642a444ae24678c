"""Ray Tune's searcher over our study. Ray's own OptunaSearch calls a pruned trial COMPLETE and a failed one RUNNING."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import optuna
from ray.tune.search import Searcher

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.search.search import Search
from raytune_ft.metrics.report import value_in
from raytune_ft.search.sampling.space import suggest
from raytune_ft.search.study.study import learning_curve, record, tell, trial_name
from raytune_ft.training.outcome import Outcome

PARAMETERS = "parameters"
TRIAL = "trial"
COPIED = "copied"
"""Of a trial's configuration: `{"trial": "0001", "step": 10}`, whose checkpoint it goes on from."""
COPIES_ATTRIBUTE = "copies"
"""Of a trial in the study: all that it copied, the last last, each with the parameters that it went on with."""


class StudySearcher(Searcher):
    """Hands out configurations, records every report, and tells the study each trial's outcome.

    Args:
        study: The study to ask and tell.
        experiment: Whose values stand where the space is silent.
        search: The space.
        wanted: Trials to hand out at most.
        interrupted: Trials of a killed driver; they are handed out again first, under their own numbers, and of those
            first the ones that copied, as a donor that trains on removes the checkpoint.
        outcome_of: Returns how the trial of that name ended; called when Tune is done with it.
        may_start: Returns whether a new trial is wanted now; asked before each is handed out.
        curve_of: Returns all reports with a checkpoint of the trial of that name.
        over: Returns whether no more are handed out, as the budget is used up.

    Attributes:
        failure: The error that kept it from its work, such as a storage that does not answer.
    """

    def __init__(
        self,
        study: optuna.Study,
        experiment: Experiment,
        search: Search,
        wanted: int,
        interrupted: list[optuna.Trial],
        outcome_of: Callable[[str, dict[str, Any] | None], Outcome],
        may_start: Callable[[], bool] = lambda: True,
        curve_of: Callable[[str], list[dict[str, Any]]] = lambda name: [],
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        super().__init__(metric=search.goals[0].name, mode=search.goals[0].mode)
        self._study, self._search = study, search
        self._defaults = experiment.model_dump(mode="json")
        self._left = wanted
        self._interrupted = deque(sorted(interrupted, key=lambda trial: COPIES_ATTRIBUTE not in trial.user_attrs))
        self._outcome_of, self._may_start, self._curve_of = outcome_of, may_start, curve_of
        self._over = over
        self._best: Callable[..., float | None] = min if search.goals[0].mode == "min" else max
        self.failure: Exception | None = None
        self._running: dict[str, optuna.Trial] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._known: dict[int, dict[int, float]] = {  # trial's number -> its curve; asking the study takes ever longer
            trial.number: dict(learning_curve(trial.storage.get_trial(trial._trial_id))) for trial in interrupted
        }

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher, and a sweep is resumed from its study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        with self._kept():
            return self._suggest(trial_id)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Tune goes on after many an error of its searcher; a study that can't be told the truth ends the search."""
        if self.failure is not None:
            raise self.failure
        try:
            yield
        except Exception as error:
            self.failure = error
            raise

    def _suggest(self, trial_id: str) -> Any:
        if self._over() or (self._left <= 0 and not self._running):
            return str(Searcher.FINISHED)
        if self._left <= 0 or not self._may_start():  # Tune asks again; a finished search would start a process anew
            return None  # each time that a paused trial goes on
        self._left -= 1
        trial = self._interrupted.popleft() if self._interrupted else self._study.ask()
        self._running[trial_id] = trial
        if copies := trial.user_attrs.get(COPIES_ATTRIBUTE):
            copied, parameters = {COPIED: copies[-1][COPIED]}, copies[-1][PARAMETERS]
        else:
            copied, parameters = {}, suggest(trial, self._search.space, self._defaults)
        return {TRIAL: trial_name(trial.number), PARAMETERS: parameters, **copied}

    def on_copy(self, trial_id: str, config: dict[str, Any]) -> None:
        """The scheduler had the trial copy another one; the study keeps what and from whom, as it has just one value
        for each of a trial's parameters, the first."""
        trial = self._running[trial_id]
        copies = trial.user_attrs.get(COPIES_ATTRIBUTE, [])
        trial.set_user_attr(COPIES_ATTRIBUTE, [*copies, {key: config[key] for key in (COPIED, PARAMETERS)}])

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        if trial := self._running.get(trial_id):
            self._last[trial_id] = result
            with self._kept():
                self._record(trial, result)

    def _record(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        value = value_in(result, self._search.goals[0].name)
        if value is not None and "step" in result and math.isfinite(value):
            known, step = self._known.setdefault(trial.number, {}), int(result["step"])
            if step not in known:
                known[step] = float(value)
                record(self._study, trial, self._search, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        trial, last = self._running.pop(trial_id, None), self._last.pop(trial_id, None)
        if trial is None:
            return
        result = result or (None if error else last)  # Tune gives none where a paused trial is stopped
        with self._kept():
            # First of all: a report that is on record without an outcome is one that the trial was let go on from,
            # and the report at which the scheduler stops it comes only here.
            outcome = self._outcome_of(trial_name(trial.number), result)
            self._record(trial, result or {})
            for report in self._curve_of(trial_name(trial.number)):  # a driver that was killed may have missed some
                self._record(trial, report)
            curve = self._known.pop(trial.number, {})
            tell(self._study, trial, outcome, self._best(curve.values(), default=outcome.value))

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is on disk, and a resumed sweep is built from it."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its study; use `raytune-ft sweep --resume`")
