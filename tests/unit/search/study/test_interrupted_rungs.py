"""A study that is interrupted anywhere ends as the one that never was: the same rungs, the same decisions."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory
from raytune_ft.search.scheduling.replay import PastTrial, decide_unseen, replay
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.searcher import StudySearcher
from raytune_ft.search.study.study import trial_name
from raytune_ft.search.trials.decide import decide_outcome
from raytune_ft.training.metrics_log import append_metrics, read_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind

TRIALS = 7
ASHA = {"type": "asha", "grace_period": 5, "reduction_factor": 3}
MEDIAN = {"type": "median", "grace_period": 5, "min_samples_required": 2}


class Killed(BaseException):
    """Ends a driver at once."""


def loss(seed: int, name: str, step: int) -> float:
    """Of a trial at a step; some that begin well end badly."""
    start, end = (random.Random(f"{seed} {name} {which}").random() for which in ("start", "end"))
    return round(start + (end - start) * step / 45, 6)


@dataclass
class World:
    """What is left of a driver that dies, and how many more things the living one will do."""

    experiment: Experiment
    run: RunDirectory
    seed: int
    at_once: int
    repeats: bool
    study: optuna.Study = field(default_factory=optuna.create_study)
    lives: int = 10**9
    clock: int = 0
    drivers: int = 0

    def may_die(self) -> None:
        self.lives -= 1
        if self.lives < 0:
            raise Killed

    def drive(self) -> Any:
        """A driver's life: what Ray Tune, the workers and the sweep do, in their order. Returns its scheduler."""
        self.drivers += 1
        experiment, search = self.experiment, self.experiment.search
        assert search is not None
        decide_unseen(experiment, search, self.run, self.study)
        done = sum(trial.state.is_finished() for trial in self.study.trials)
        scheduler = make_scheduler(experiment, search)
        replay(scheduler, search, self.study.get_trials())
        searcher = StudySearcher(
            self.study, experiment, search, TRIALS - done, interrupted_trials(self.study), self._outcome_of
        )
        running: dict[str, Any] = {}
        for number in itertools.count():
            while len(running) < self.at_once:
                tune_id = f"driver-{self.drivers}-{number}-{len(running)}"
                if not isinstance(config := searcher.suggest(tune_id), dict):
                    break
                trial = PastTrial(tune_id, config)
                scheduler.on_trial_add(None, trial)
                running[tune_id] = trial
                if self.repeats and (last := read_metrics(self.run.trial(config["trial"]).metrics)[-1:]):
                    assert scheduler.on_trial_result(None, trial, last[0]) == "CONTINUE"
                self.may_die()
            if not running:
                return scheduler
            reports = [(trial, self._train(trial.config["trial"])) for trial in running.values()]
            for trial, report in reports:
                self.may_die()
                if report is not None:
                    decision = scheduler.on_trial_result(None, trial, dict(report))
                    self.may_die()
                if report is not None and decision != TrialScheduler.STOP and report["step"] < 45:
                    searcher.on_trial_result(trial.trial_id, report)
                    continue
                scheduler.on_trial_complete(None, trial, report or {"step": 0})
                searcher.on_trial_complete(trial.trial_id, report)
                del running[trial.trial_id]

    def _train(self, name: str) -> dict[str, Any] | None:
        """A worker's next report, or None where the trial ended before the driver was told."""
        trial = self.run.trial(name)
        if Outcome.read(trial) is not None:
            return None
        trial.root.mkdir(parents=True, exist_ok=True)
        reports = read_metrics(trial.metrics)
        done = reports[-1]["step"] if reports else 0
        ahead = [step for step in self.experiment.report_steps() if step > done]
        if not ahead:  # it had come to its end
            return reports[-1]
        self.clock += 1
        report = {"step": ahead[0], "eval_loss": loss(self.seed, name, ahead[0]), "checkpoint": "there"}
        append_metrics(trial.metrics, report | {"time": f"{self.clock:06d}"})
        return report

    def _outcome_of(self, name: str, result: dict[str, Any] | None) -> Outcome:
        self.may_die()
        assert self.experiment.search is not None
        outcome = decide_outcome(Outcome.read(self.run.trial(name)), result or {}, self.experiment.search, 45)
        outcome.write(self.run.trial(name))
        self.may_die()
        return outcome

    def ends(self) -> dict[str, tuple[str, int]]:
        """How each trial ended."""
        outcomes = {trial_name(number): Outcome.read(self.run.trial(trial_name(number))) for number in range(TRIALS)}
        return {name: (str(outcome.kind), outcome.step) for name, outcome in outcomes.items() if outcome}


def state_of(scheduler: Any) -> Any:
    """What a scheduler compares with."""
    if hasattr(scheduler, "rungs"):
        return scheduler.rungs
    return {
        trial.trial_id: {report["step"]: report["eval_loss"] for report in reports}
        for trial, reports in scheduler._results.items()
    }


@pytest.fixture
def make_world(
    make_experiment: Callable[..., Experiment], tmp_path: Any, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., World]:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nobody cuts the power, and there are many small files
    numbers = itertools.count()

    def make(scheduler: dict[str, Any], seed: int, at_once: int, repeats: bool) -> World:
        search = {"scheduler": scheduler, "trials": TRIALS, "algorithm": {"type": "random"}}
        run = RunDirectory(tmp_path / str(next(numbers)))
        return World(make_experiment(**search), run, seed, at_once, repeats)

    return make


@pytest.mark.parametrize("repeats", [True, False], ids=["a lane repeats its last report", "isolated trials do not"])
@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("scheduler", [ASHA, MEDIAN], ids=["asha", "median"])
def test_wherever_a_driver_dies_rungs_and_decisions_are_those_of_a_study_that_was_never_interrupted(
    make_world: Callable[..., World], scheduler: dict[str, Any], at_once: int, repeats: bool
) -> None:
    whole = make_world(scheduler, 1, at_once, repeats)
    expected, ends = state_of(whole.drive()), whole.ends()
    assert {kind for kind, _ in ends.values()} == {"completed", "pruned"}
    for moment in range(10**9 - whole.lives):
        world = make_world(scheduler, 1, at_once, repeats)
        world.lives = moment
        with pytest.raises(Killed):
            world.drive()
        world.lives = 10**9
        state = state_of(world.drive())
        assert (world.ends(), state) == (ends, expected), f"killed at {moment}"
        assert [trial.state.is_finished() for trial in world.study.trials] == [True] * TRIALS


def test_many_interruptions_are_as_harmless_as_one(make_world: Callable[..., World]) -> None:
    whole = make_world(ASHA, 1, 3, True)
    expected, ends = state_of(whole.drive()), whole.ends()
    for every in (3, 5, 8):
        world = make_world(ASHA, 1, 3, True)
        for life in itertools.count(every):  # each lives a little longer, so that it comes to an end
            world.lives = life
            try:
                state = state_of(world.drive())
            except Killed:
                continue
            break
        assert world.drivers > 3
        assert (state, world.ends()) == (expected, ends)


def test_a_trial_that_goes_on_beyond_a_rung_leaves_the_bar_there_where_it_was(
    make_world: Callable[..., World],
) -> None:
    """Its loss of step 100 once stood at rung 10, and stopped a new trial there that was among the best."""
    world = make_world(ASHA, 0, 1, True)
    trial = world.study.ask()
    for step, value in ((5, 0.6), (15, 0.5)):
        trial.report(value, step)
    search = world.experiment.search
    scheduler = make_scheduler(world.experiment, search)
    replay(scheduler, search, world.study.get_trials())
    goes_on, new = (PastTrial(name, {"trial": name, "parameters": {}}) for name in ("0000", "0001"))
    scheduler.on_trial_add(None, goes_on)
    for step, value in ((15, 0.5), (45, 0.28), (45, 0.28)):  # a lane repeats the last, and Tune the end
        assert scheduler.on_trial_result(None, goes_on, {"step": step, "eval_loss": value}) == "CONTINUE"
    scheduler.on_trial_complete(None, goes_on, {"step": 45, "eval_loss": 0.28})
    assert scheduler.rungs == {5: {"0000": 0.6}, 15: {"0000": 0.5}}
    assert scheduler.on_trial_result(None, new, {"step": 5, "eval_loss": 0.505}) == "CONTINUE"


def test_a_report_that_no_driver_lived_to_see_is_decided_before_anything_starts(
    make_world: Callable[..., World],
) -> None:
    world = make_world(ASHA, 0, 1, True)
    search, heard = world.experiment.search, []
    for number, value in enumerate((0.3, 0.9, 0.2)):
        trial, directory = world.study.ask(), world.run.trial(trial_name(number))
        directory.root.mkdir(parents=True)
        append_metrics(directory.metrics, {"step": 5, "eval_loss": value, "checkpoint": "there", "time": str(number)})
        if not number:
            trial.report(value, 5)
    append_metrics(directory.metrics, {"step": 15, "eval_loss": None, "checkpoint": None, "time": "9"})
    ended = decide_unseen(world.experiment, search, world.run, world.study, lambda *each: heard.append(each[0]))
    assert (ended, heard) == (["0001"], ["0001", "0002"])
    outcome = Outcome.read(world.run.trial("0001"))
    assert outcome == Outcome(OutcomeKind.pruned, "stopped by asha at step 5", 5, 0.9)
    assert [trial.state.name for trial in world.study.trials] == ["RUNNING", "PRUNED", "RUNNING"]
    assert [trial.intermediate_values for trial in world.study.trials] == [{5: 0.3}, {5: 0.9}, {5: 0.2}]
    assert decide_unseen(world.experiment, search, world.run, world.study) == []


def test_an_uninterrupted_study_stops_whom_rays_own_scheduler_stops(make_world: Callable[..., World]) -> None:
    for seed in range(50):
        world = make_world(ASHA, seed, 1, False)
        ours = make_scheduler(world.experiment, world.experiment.search)
        rays = AsyncHyperBandScheduler("step", "eval_loss", "min", max_t=46, grace_period=5, reduction_factor=3)
        for number in range(12):
            trial = PastTrial.of(trial_name(number), {})
            rays.on_trial_add(None, trial)
            for step in (5, 15):
                report = {"step": step, "eval_loss": loss(seed, trial.trial_id, step)}
                decision = ours.on_trial_result(None, trial, report)
                assert decision == rays.on_trial_result(None, trial, report)
                if decision == "STOP":
                    break
