"""A small experiment with a search, and a run directory."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler

from raytune_ft.config.experiment import Experiment
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.search.earlier_studies.portfolio import enqueue_first
from raytune_ft.search.sampling.samplers import make_sampler
from raytune_ft.search.scheduling.pace import Pace
from raytune_ft.search.scheduling.schedulers import make_scheduler
from raytune_ft.search.study.resume import interrupted_trials
from raytune_ft.search.study.searcher import StudySearcher
from raytune_ft.search.trials.decide import decide_outcome
from raytune_ft.training.metrics_log import append_metrics
from raytune_ft.training.outcome import Outcome, OutcomeKind


@pytest.fixture
def quiet() -> Iterator[None]:
    """Optuna says only what went wrong."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@pytest.fixture
def make_experiment() -> Callable[..., Experiment]:
    """An experiment whose `search` has the keyword arguments."""

    def make(**search: Any) -> Experiment:
        space = {
            "parameters": {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}, "method.r": {"choice": [4, 8, 16]}}
        }
        return Experiment.model_validate(
            {
                "name": "toy",
                "base_model": "base",
                "data": {"train": "train.jsonl"},
                "train": {"max_steps": 45, "dtype": "float32"},
                "search": {
                    "space": space,
                    "scheduler": {"type": "asha", "grace_period": 5, "reduction_factor": 3},
                    "trials": 8,
                    **search,
                },
            }
        )

    return make


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "runs/toy")


@pytest.fixture
def ended(run: RunDirectory) -> Callable[..., None]:
    """Leaves the files of a trial that ended; `curve` is step -> eval_loss, and each report has a checkpoint."""

    def leave(name: str, kind: str, curve: dict[int, float], **outcome: Any) -> None:
        trial = run.trial(name)
        trial.root.mkdir(parents=True)
        for step, loss in curve.items():
            report = {"step": step, "eval_loss": loss, "seconds": step * 1.0, "checkpoint": f"step-{step:06d}"}
            append_metrics(trial.metrics, report)
            (trial.checkpoints / f"step-{step:06d}").mkdir(parents=True)
        write_json(trial.config, {"trial": name, "parameters": {"method.r": int(name)}})
        last = max(curve, default=0)
        Outcome(OutcomeKind(kind), outcome.pop("reason", f"it {kind}"), last, curve.get(last), **outcome).write(trial)

    return leave


class SimulatedTrial:
    """What schedulers and the searcher know of one of Ray Tune's trials; its weights are one number."""

    def __init__(self, trial_id: str, config: dict[str, Any]) -> None:
        self.trial_id, self.config = trial_id, config
        self.status, self.is_saving, self.experiment_tag = Trial.PENDING, False, ""
        self.step, self.weights = 0, 0.0
        self.last_result: dict[str, Any] = {}
        self.run_metadata = SimpleNamespace(checkpoint_manager=SimpleNamespace(_latest_checkpoint_result=None))

    def __str__(self) -> str:
        return self.trial_id

    @property
    def name(self) -> str:
        return str(self.config["trial"])

    @property
    def checkpoint(self) -> Any:
        latest = self.run_metadata.checkpoint_manager._latest_checkpoint_result
        return latest and latest.checkpoint

    def save(self) -> None:
        latest = SimpleNamespace(checkpoint=(self.step, self.weights))
        self.run_metadata.checkpoint_manager._latest_checkpoint_result = latest

    def is_finished(self) -> bool:
        return self.status in (Trial.TERMINATED, Trial.ERROR)

    def set_config(self, config: dict[str, Any]) -> None:
        self.config = config

    def set_experiment_tag(self, tag: str) -> None:
        self.experiment_tag = tag


class Simulator:
    """Does with searcher and scheduler what ray 2.60's TuneController does, in its order; trials train in no time.

    Args:
        experiment: With a `search` section.
        storage: Of the study that is asked and told.
        gain: How much a step with these parameters adds to a trial's weights; its loss is what they lack.
        dies: Trials that end by themselves, as diverged ones do, before they reach the step.
        seed: Of the order in which trials that train at once report.

    Attributes:
        study: Of the search.
        scheduler: As the sweep makes it.
        reports: Trial, step and loss, in the order that they came.
        pauses: Of all trials.
        at_once: The most trials that trained together.
        outcomes: How each ended.
    """

    def __init__(
        self,
        experiment: Experiment,
        storage: optuna.storages.BaseStorage,
        gain: Callable[[dict[str, Any]], float],
        dies: dict[str, int] | None = None,
        seed: int = 0,
        wanted: int | None = None,
    ) -> None:
        search = experiment.search
        assert search is not None
        self.study = optuna.create_study(storage=storage, study_name=experiment.name, load_if_exists=True)
        self.study.sampler = make_sampler(search, experiment, len(self.study.trials))
        enqueue_first(self.study, experiment)
        self.scheduler = Pace(make_scheduler(experiment, search), search.max_concurrent)
        self.reports: list[tuple[str, int, float]] = []
        self.outcomes: dict[str, Outcome] = {}
        self.pauses = self.at_once = 0
        self._experiment, self._search, self._gain, self._dies = experiment, search, gain, dies or {}
        self._order = random.Random(seed)
        self._trials: list[SimulatedTrial] = []
        self.searcher = StudySearcher(
            self.study,
            experiment,
            search,
            search.trials if wanted is None else wanted,
            interrupted_trials(self.study),
            self._outcome_of,
            lambda: self.scheduler.may_start(search.max_concurrent),
        )
        self.search_alg = SimpleNamespace(searcher=self.searcher)

    def get_trials(self) -> list[SimulatedTrial]:
        return self._trials

    def get_live_trials(self) -> list[SimulatedTrial]:
        return [trial for trial in self._trials if not trial.is_finished()]

    def stop_trial(self, trial: SimulatedTrial) -> None:
        if trial.is_finished():
            return
        if trial.status == Trial.RUNNING:
            self.scheduler.on_trial_complete(self, trial, trial.last_result)
            self.searcher.on_trial_complete(trial.trial_id, trial.last_result)
        else:
            self.scheduler.on_trial_remove(self, trial)
            self.searcher.on_trial_complete(trial.trial_id)
        trial.status = Trial.TERMINATED

    def play(self, until: int | None = None) -> Simulator:
        """Until the search is over, or `until` reports have come, as where the driver is killed."""
        while until is None or len(self.reports) < until:
            added = self._add()
            chosen = self.scheduler.choose_trial_to_run(self)
            if chosen is not None:
                chosen.status = Trial.PENDING
            starting = self._with(Trial.PENDING)
            for trial in starting:
                trial.status = Trial.RUNNING
                if trial.checkpoint:
                    trial.step, trial.weights = trial.checkpoint
            running = self._with(Trial.RUNNING)
            self.at_once = max(self.at_once, len(running))
            if starting:
                continue  # a report takes longer than a start
            if running:
                self._train(self._order.choice(running))
            elif added == "FINISHED":
                assert not self.get_live_trials()
                return self
            else:
                assert not self.get_live_trials(), "all wait for ever"  # else they were stopped meanwhile
        return self

    def curve(self, name: str) -> list[tuple[int, float]]:
        return [(step, loss) for trial, step, loss in self.reports if trial == name]

    def reached(self, step: int) -> int:
        """How many trials trained to that step."""
        return len({name for name, at, _ in self.reports if at >= step})

    def _with(self, status: str) -> list[SimulatedTrial]:
        return [trial for trial in self._trials if trial.status == status]

    def _add(self) -> Any:
        trial_id = f"t{len(self._trials):03d}"
        config = self.searcher.suggest(trial_id)
        if isinstance(config, dict):
            trial = SimulatedTrial(trial_id, config)
            self._trials.append(trial)
            self.scheduler.on_trial_add(self, trial)
        return config

    def _train(self, trial: SimulatedTrial) -> None:
        ahead = [step for step in self._own(trial.config["parameters"]).report_steps() if step > trial.step]
        if not ahead or ahead[0] >= self._dies.get(trial.name, ahead[0] + 1):
            self.stop_trial(trial)
            return
        trial.weights += self._gain(trial.config["parameters"]) * (ahead[0] - trial.step)
        trial.step = ahead[0]
        loss = 10.0 - trial.weights
        self.reports.append((trial.name, trial.step, loss))
        result = {"step": trial.step, "eval_loss": loss, "seconds": float(trial.step)}
        decision = self.scheduler.on_trial_result(self, trial, dict(result))
        trial.last_result = result
        if decision == TrialScheduler.STOP:
            self.stop_trial(trial)
            return
        self.searcher.on_trial_result(trial.trial_id, result)
        if decision == TrialScheduler.PAUSE:
            self.pauses += 1
            trial.save()
            trial.status = Trial.PAUSED

    def _outcome_of(self, name: str, result: dict[str, Any] | None) -> Outcome:
        if name in self._dies:
            outcome = Outcome(OutcomeKind.diverged, "its loss is nan")
        else:
            own = next(trial.config["parameters"] for trial in self._trials if trial.name == name)
            outcome = decide_outcome(None, result or {}, self._search, self._own(own).train.max_steps)
        self.outcomes[name] = outcome
        return outcome

    def _own(self, parameters: dict[str, Any]) -> Experiment:
        """The trial's experiment: its steps may be searched."""
        steps = parameters.get("train.max_steps", self._experiment.train.max_steps)
        train = self._experiment.train.model_copy(update={"max_steps": steps})
        return self._experiment.model_copy(update={"train": train})


@pytest.fixture
def simulate(make_experiment: Callable[..., Experiment]) -> Callable[..., Simulator]:
    """A search whose `search` has the keyword arguments, ready to `play`; trials with a higher learning rate win.

    All of a test are drivers of the same study, one after the other, unless they are `fresh`.
    """
    kept = optuna.storages.InMemoryStorage()

    def make(
        gain: Callable[[dict[str, Any]], float] = lambda parameters: parameters["train.learning_rate"],
        dies: dict[str, int] | None = None,
        seed: int = 0,
        wanted: int | None = None,
        fresh: bool = False,
        **search: Any,
    ) -> Simulator:
        storage = optuna.storages.InMemoryStorage() if fresh else kept
        return Simulator(make_experiment(**search), storage, gain, dies, seed, wanted)

    return make


@pytest.fixture
def simulated_trial() -> type[SimulatedTrial]:
    return SimulatedTrial
