"""Ray Tune's loop without Ray: a searcher and a scheduler as they are, over trials that replay recorded curves.

Read against Ray 2.60.0's `tune_controller.py`: which calls come in which order, and what a decision does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import TrialScheduler

from quality.curves import Curve, Curves, Report

PENDING, RUNNING, PAUSED, TERMINATED = (
    TuneTrial.PENDING,
    TuneTrial.RUNNING,
    TuneTrial.PAUSED,
    TuneTrial.TERMINATED,
)


@dataclass(eq=False)
class Trial:
    """What schedulers look at in a trial of Tune's, and how far its curve was played."""

    trial_id: str
    config: dict[str, Any]
    curve: Curve
    status: str = PENDING
    played: int = 0
    tokens: int = 0
    last: dict[str, Any] = field(default_factory=dict)
    is_saving: bool = False


@dataclass(frozen=True)
class Spent:
    """What a search had used up, and found, at one report."""

    trials: int
    tokens: int
    best: float


class Controller:
    """What schedulers ask of Tune's controller.

    Args:
        searcher: Ray's interface; what it suggests holds `parameters`, or is them.
        scheduler: Ray's interface.
        curves: What trials play.
        named: Gets each trial under the name that our searcher gave it.
    """

    def __init__(self, searcher: Any, scheduler: Any, curves: Curves, named: dict[str, Trial] | None = None) -> None:
        self.search_alg = SimpleNamespace(searcher=searcher)
        self._searcher, self._scheduler, self._curves = searcher, scheduler, curves
        self._trials: list[Trial] = []
        self._named = {} if named is None else named

    def get_trials(self) -> list[Trial]:
        return list(self._trials)

    def get_live_trials(self) -> list[Trial]:
        return [trial for trial in self._trials if trial.status != TERMINATED]

    def stop_trial(self, trial: Trial, **_: Any) -> None:
        if trial.status != TERMINATED:
            self._scheduler.on_trial_remove(self, trial)
            self._searcher.on_trial_complete(trial.trial_id, result=trial.last or None)
            trial.status = TERMINATED

    def play(self, trials: int) -> Iterator[Spent]:
        """Runs one trial at a time until `trials` were handed out and ended; yields after each report.

        Raises:
            RuntimeError: Trials are left, and neither searcher nor scheduler wants one to run.
        """
        tokens, best = 0, math.inf
        while True:
            added = self._add_one(trials)
            trial = self._scheduler.choose_trial_to_run(self)
            if trial is None:
                if not added and self.get_live_trials():
                    raise RuntimeError(f"{[each.status for each in self.get_live_trials()]} wait for ever")
                if not added:
                    return
                continue
            trial.status = RUNNING
            for report in self._until_it_rests(trial):
                tokens += report.tokens - trial.tokens
                trial.tokens = report.tokens
                best = min(best, math.inf if report.eval_loss is None else report.eval_loss)
                yield Spent(len(self._trials), tokens, best)

    def _add_one(self, most: int) -> bool:
        """Asks the searcher for a trial, as Tune does whenever none is pending."""
        if len(self._trials) >= most or any(trial.status == PENDING for trial in self._trials):
            return False
        name = f"t{len(self._trials):05d}"
        config = self._searcher.suggest(name)
        if config is None or isinstance(config, str):  # not now, or not any more
            return False
        trial = Trial(name, config, self._curves.of(config.get("parameters", config)))
        self._trials.append(trial)
        self._named[config.get("trial", name)] = trial
        self._scheduler.on_trial_add(self, trial)
        return True

    def _until_it_rests(self, trial: Trial) -> Iterator[Report]:
        while trial.status == RUNNING:
            if trial.played == len(trial.curve.reports):
                self._end(trial)
                return
            report = trial.curve.reports[trial.played]
            trial.played += 1
            yield report
            if trial.curve.outcome == "diverged" and trial.played == len(trial.curve.reports):
                self._end(trial)  # its last report has no checkpoint, and Tune never sees it
                return
            trial.last = {**asdict(report), "training_iteration": trial.played, "time_total_s": report.seconds}
            self._follow(trial, self._scheduler.on_trial_result(self, trial, trial.last))

    def _follow(self, trial: Trial, decision: str) -> None:
        if decision == TrialScheduler.STOP:
            self._end(trial)
            return
        self._searcher.on_trial_result(trial.trial_id, trial.last)
        if decision == TrialScheduler.PAUSE:
            trial.status = PAUSED

    def _end(self, trial: Trial) -> None:
        trial.status = TERMINATED
        self._scheduler.on_trial_complete(self, trial, trial.last)
        self._searcher.on_trial_complete(trial.trial_id, result=trial.last or None)
