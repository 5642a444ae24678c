"""Synchronous Hyperband: trials pause at a rung until their bracket is full and all of its trials have reached it.

Read against ray 2.60's HyperBandForBOHB, whose brackets and halving these are. What differs: rungs are whole fractions
of the last step, a trial that dies does not halve a bracket that is still filling, brackets are halved only while
all of their trials are paused, a trial at its last step ends by itself, and trials are compared by their values at the
bracket's rung, as one that a new driver resumes may be ahead of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import HyperBandForBOHB, TrialScheduler
from ray.tune.schedulers.hyperband import _Bracket

from raytune_ft.config.search.rungs import Bracket
from raytune_ft.search.study.searcher import TRIAL


class PausingHyperband(HyperBandForBOHB):
    """Hyperband whose trials are handed out one by one, to the bracket with the most trials first.

    Args:
        brackets: The brackets, which are filled in turn, again and again.
        metric: Name of the metric that trials are compared by.
        mode: `min` or `max`.
    """

    def __init__(self, brackets: tuple[Bracket, ...], metric: str, mode: str) -> None:
        self._last = brackets[0].rungs[-1]
        factor = brackets[0].factor
        self._goal = metric
        self._curves: dict[str, dict[int, float]] = {}  # of all trials, by their names in the study
        super().__init__(time_attr="step", metric=metric, mode=mode, max_t=self._last, reduction_factor=factor)
        self._plan = {len(bracket.rungs) - 1: bracket for bracket in brackets}  # keyed by halvings, as in Ray
        self._s_max_1 = len(brackets)
        self._get_r0 = lambda halvings: self._plan[halvings].rungs[0]

    def remember(self, name: str, parameters: Mapping[str, Any], curve: Mapping[int, float]) -> None:
        """Records the `curve` (step -> value) that an earlier driver saw of a trial; its bracket is not known."""
        self._curves[name] = dict(curve)

    def waiting(self) -> bool:
        """Returns whether a paused trial may go on, now or after a halving that is due; it goes before new trials."""
        return self._next() is not None or any(bracket.waits(no_more=False) for bracket in self._brackets())

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if "step" not in result or result.get(self._goal) is None or result["step"] >= self._last:
            return str(TrialScheduler.CONTINUE)
        bracket, _ = self._trial_info[trial]
        self._curves.setdefault(trial.config[TRIAL], {})[result["step"]] = result[self._goal]
        bracket.update_trial_stats(trial, result)
        return str(TrialScheduler.CONTINUE if bracket.continue_trial(trial) else TrialScheduler.PAUSE)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        bracket, _ = self._trial_info[trial]
        bracket.cleanup_trial(trial)

    def choose_trial_to_run(self, tune_controller: Any, allow_recurse: bool = True) -> Any:
        trials = tune_controller.get_trials()
        for trial in trials:
            if trial.status == Trial.PENDING:
                return trial
        # Tune has just asked the searcher, which gives a trial whenever none trains: so no new one will come.
        no_more = not any(trial.status == Trial.RUNNING for trial in trials)
        for bracket in self._brackets():
            while bracket.waits(no_more=no_more):
                self._process_bracket(tune_controller, bracket)
        return self._next()

    def _next(self) -> Any:
        for bracket in self._brackets():
            for trial in bracket.current_trials():
                if trial.status == Trial.PAUSED and trial in bracket.trials_to_unpause:
                    return trial
        return None

    def _brackets(self) -> list[_Rungs]:
        return [bracket for band in self._hyperbands for bracket in band]

    def _create_bracket(self, s: int) -> _Rungs:
        return _Rungs(self._plan[s], self._curves)

    def _unpause_trial(self, tune_controller: Any, trial: Any) -> None:
        """Does nothing: the searcher need not know."""


class _Rungs(_Bracket):
    """A bracket with given rungs, which stays full once it was full.

    Args:
        plan: The bracket's rungs, number of trials and reduction factor.
        curves: All trials' values: trial's name -> step -> value.
    """

    def __init__(self, plan: Bracket, curves: Mapping[str, Mapping[int, float]]) -> None:
        super().__init__(
            time_attr="step",
            max_trials=plan.trials,
            init_t_attr=plan.rungs[0],
            max_t_attr=plan.rungs[-1],
            eta=plan.factor,
            s=len(plan.rungs) - 1,
        )
        self._rungs, self._curves = plan.rungs, curves

    def filled(self) -> bool:
        return len(self._all_trials) >= self._n0

    def waits(self, *, no_more: bool) -> bool:
        """Returns whether all of its trials wait to be halved; `no_more` says that no trial will be added."""
        live = self.current_trials()
        paused = all(trial.status == Trial.PAUSED and trial not in self.trials_to_unpause for trial in live)
        return bool(live) and paused and (self.filled() or no_more) and self.cur_iter_done()

    def successive_halving(self, metric: str, metric_op: float) -> tuple[list[Any], list[Any]]:
        rung, latest = self._cumul_r, dict(self._live_trials)
        for trial in latest:  # a trial without a value at the rung can't be compared, and goes on
            value = self._curves.get(trial.config[TRIAL], {}).get(rung, math.inf * metric_op)
            self._live_trials[trial] = {metric: value}
        good, bad = super().successive_halving(metric, metric_op)
        self._live_trials.update(latest)
        self._r = self._cumul_r = self._rungs[-1 - self._halves]
        return good, bad
