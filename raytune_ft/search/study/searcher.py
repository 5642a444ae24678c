"""Ray Tune's searcher over our study: Ray's own OptunaSearch calls a pruned trial COMPLETE, a failed one RUNNING."""

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
"""Key in a trial's configuration for the checkpoint that it goes on from, e.g. `{"trial": "0001", "step": 10}`."""
COPIES_ATTRIBUTE = "copies"
"""The study's attribute of a trial for all that it copied, in order, each with the parameters that it got then."""


class StudySearcher(Searcher):
    """Hands out configurations, records every report, and tells the study each trial's outcome.

    Args:
        study: The Optuna study.
        experiment: The experiment, whose values hold for settings that the space does not search.
        search: The `search` section, with the space.
        wanted: How many trials to hand out at most.
        interrupted: Trials of a killed driver. They are handed out again first, under their own numbers. Those that had
            copied another trial go before the rest, as the donor, once it trains on, removes the checkpoint.
        outcome_of: Returns how the trial of a given name ended; is called when Tune is done with it.
        may_start: Returns whether a new trial is wanted now; is called before each one is handed out.
        curve_of: Returns all reports with a checkpoint of the trial of a given name.
        over: Returns whether the budget is used up, so that no more trials are handed out.

    Attributes:
        failure: The error that stopped the searcher, such as a storage that does not answer, or None.
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
        self._known: dict[int, dict[int, float]] = {  # trial's number -> its curve; the study gets slower to ask
            trial.number: dict(learning_curve(trial.storage.get_trial(trial._trial_id))) for trial in interrupted
        }

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its searcher, but a sweep is resumed from its study."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        with self._kept():
            return self._suggest(trial_id)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keeps an error in `failure`, and raises it at each later call, as Tune goes on after many such errors."""
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
        if self._left <= 0 or not self._may_start():  # None, as Tune then asks again: once FINISHED, it would
            return None  # start a new process each time that a paused trial goes on
        self._left -= 1
        trial = self._interrupted.popleft() if self._interrupted else self._study.ask()
        self._running[trial_id] = trial
        if copies := trial.user_attrs.get(COPIES_ATTRIBUTE):
            copied, parameters = {COPIED: copies[-1][COPIED]}, copies[-1][PARAMETERS]
        else:
            copied, parameters = {}, suggest(trial, self._search.space, self._defaults)
        return {TRIAL: trial_name(trial.number), PARAMETERS: parameters, **copied}

    def on_copy(self, trial_id: str, config: dict[str, Any]) -> None:
        """Records in the study what the trial copied, and from which one; is called by the scheduler.

        It goes into an attribute, as Optuna keeps only the first value of each of a trial's parameters.
        """
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
            # The outcome comes first: a recorded report without an outcome means that the trial was let go on, and the
            # report at which the scheduler stops a trial is recorded only here.
            outcome = self._outcome_of(trial_name(trial.number), result)
            self._record(trial, result or {})
            for report in self._curve_of(trial_name(trial.number)):  # a killed driver may have missed some
                self._record(trial, report)
            curve = self._known.pop(trial.number, {})
            tell(self._study, trial, outcome, self._best(curve.values(), default=outcome.value))

    def save(self, checkpoint_path: str) -> None:
        """Does nothing: the study is on disk, and a resumed sweep is built from it."""

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError("a sweep is resumed from its study; use `raytune-ft sweep --resume`")
