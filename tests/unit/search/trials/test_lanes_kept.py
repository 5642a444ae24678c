"""A sweep whose lanes can't be kept ends with one line, its trials stay open, and `--resume` goes on (fault 35)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from optuna.trial import TrialState

from raytune_ft.cli import train as verbs
from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.errors import LanesLost
from raytune_ft.events.stream import nobody
from raytune_ft.execution.devices import Decision
from raytune_ft.execution.lanes.entries import LanesNow
from raytune_ft.execution.runner import Choice
from raytune_ft.paths import RunDirectory
from raytune_ft.search import sweep
from raytune_ft.search.budget.budget_stop import Metering
from raytune_ft.search.budget.spent import Meter, shared_group
from raytune_ft.search.on_cluster import OnCluster
from raytune_ft.search.session import Session
from raytune_ft.search.study.searcher import TRIAL, StudySearcher
from raytune_ft.search.study.study import open_study
from raytune_ft.search.trials.asked import Asked
from raytune_ft.search.trials.lanes_kept import LanesKept
from raytune_ft.search.trials.trials import Trials
from raytune_ft.training.outcome import Outcome

WHY = "no lane has been ready for 60 min (the workers timed out)"
WANTED = 8


class Dispatcher:
    """A handle of the lanes' dispatcher; answers come at once."""

    def __init__(self) -> None:
        self.why: Any = None
        self.closed = 0
        self.away: frozenset[int] = frozenset()
        self.now = SimpleNamespace(remote=lambda: self)
        self.close = SimpleNamespace(remote=self._close)

    def _close(self, wait_s: float) -> None:
        self.closed += 1


@pytest.fixture
def dispatcher(monkeypatch: pytest.MonkeyPatch) -> Dispatcher:
    def get(asked: Dispatcher) -> Any:
        if isinstance(asked.why, Exception):
            raise asked.why
        return LanesNow(asked.why, asked.away)

    monkeypatch.setattr(ray, "wait", lambda refs, timeout: (refs, []))
    monkeypatch.setattr(ray, "get", get)
    return Dispatcher()


def watching(dispatcher: Dispatcher, run: RunDirectory) -> LanesKept:
    watcher: Any = LanesKept(dispatcher, run)
    watcher._now = Asked(dispatcher.now.remote, every_s=-1.0)
    return watcher  # type: ignore[no-any-return]


def test_the_search_ends_when_the_lanes_are_given_up_and_not_before(dispatcher: Dispatcher, run: RunDirectory) -> None:
    watcher = watching(dispatcher, run)
    for iteration in range(5):
        watcher.on_step_begin(iteration, [])
    assert not dispatcher.closed
    dispatcher.why = WHY
    with pytest.raises(LanesLost) as ended:
        for iteration in range(2):
            watcher.on_step_begin(iteration, [])
    assert str(ended.value) == f"{run.root}: {WHY}; go on with --resume"
    assert dispatcher.closed == 1  # who waits for reports is released


def test_a_dispatcher_that_is_no_more_ends_it_too(dispatcher: Dispatcher, run: RunDirectory) -> None:
    watcher = watching(dispatcher, run)
    watcher.on_step_begin(0, [])
    dispatcher.why = ray.exceptions.ActorUnavailableError("it does not answer just now", b"0" * 16)
    watcher.on_step_begin(1, [])
    dispatcher.why = ray.exceptions.ActorDiedError()
    with pytest.raises(LanesLost, match="the lanes' dispatcher ended \\(The actor died unexpectedly"):
        for iteration in (2, 3):
            watcher.on_step_begin(iteration, [])


def test_devices_of_lanes_that_an_outage_took_are_not_paid_for(dispatcher: Dispatcher, run: RunDirectory) -> None:
    clock = SimpleNamespace(now=0.0)
    meter = Meter(run.spent, 4, lambda: clock.now)
    watcher = watching(dispatcher, run)
    trials = Trials(None, lambda trial: None, lambda: 1, groups=2, away=lambda: watcher.away)
    metering = Metering(meter, run, trials)

    def hour(*away: int) -> float:
        dispatcher.away = frozenset(away)
        for iteration in range(2):
            watcher.on_step_begin(iteration, [])
            metering.on_step_begin(iteration, [])
        before = meter.spent.device_hours
        clock.now += 3600.0
        return meter.spent.device_hours - before

    meter.group_up(shared_group(0))
    meter.group_up(shared_group(1))
    assert [hour(), hour(1), hour(0, 1), hour(0), hour()] == [8.0, 4.0, 0.0, 4.0, 8.0]


@pytest.fixture
def sweeps(
    make_experiment: Callable[..., Experiment], run: RunDirectory, ended: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Experiment, list[list[str]]]:
    """An experiment whose lanes are lost after two trials of the first sweep; and what each sweep handed out."""
    experiment = make_experiment(trials=WANTED, algorithm={"type": "random"})
    experiment = experiment.model_copy(update={"output_dir": str(run.root.parent)})
    handed_out: list[list[str]] = []

    @contextmanager
    def cluster(*_: Any) -> Iterator[OnCluster]:
        yield OnCluster(Decision(experiment, (), None), Trials(None, lambda trial: None, lambda: 1, groups=1))

    def tune(session: Session, trials: Trials) -> LanesLost | None:
        of, run, left = session.experiment, session.run, session.left()

        def outcome_of(name: str, result: Any) -> Outcome:
            outcome = Outcome.read(run.trial(name))
            assert outcome is not None
            return outcome

        searcher = StudySearcher(session.study, of, session.search, left, session.interrupted()[:left], outcome_of)
        handed_out.append([])
        first = len(handed_out) == 1
        for number in range(4 if first else left):
            name = searcher.suggest(str(number))[TRIAL]
            handed_out[-1].append(name)
            if first and number >= 2:
                run.trial(name).root.mkdir(parents=True)  # its lane was lost
                continue
            if run.trial(name).root.exists():
                run.trial(name).root.rmdir()
            ended(name, "completed", {45: 0.5})
            searcher.on_trial_complete(str(number), {})
        return LanesLost(str(run.root), WHY) if first else None

    monkeypatch.setattr(sweep, "prepare", lambda *args, **kwargs: SimpleNamespace(fingerprint="f"))
    monkeypatch.setattr(sweep, "on_cluster", cluster)
    monkeypatch.setattr(sweep, "choose_runner", lambda experiment: Choice(Lane(), "it does not matter"))
    monkeypatch.setattr(sweep, "choose_winner", lambda experiment, run, board, fingerprint: board[0])
    monkeypatch.setattr(sweep.Accounts, "plan", lambda self, decision, groups: None)
    monkeypatch.setattr(sweep, "tune_study", tune)
    return experiment, handed_out


def test_fault_35_a_sweep_without_lanes_leaves_its_trials_open_and_resume_ends_with_the_asked_number(
    sweeps: tuple[Experiment, list[list[str]]], run: RunDirectory
) -> None:
    experiment, handed_out = sweeps
    with pytest.raises(LanesLost) as lost:
        sweep.run_sweep(experiment, nobody)
    what = f"{run.root}: {WHY}; 2 of 8 trials ended, the others stay open; go on with --resume"
    assert str(lost.value) == what and lost.value.exit_code == 1
    trials = open_study(experiment, experiment.search, run).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 2 + [TrialState.RUNNING] * 2
    assert [Outcome.read(run.trial(name)) is None for name in handed_out[0]] == [False, False, True, True]
    assert run.leaderboard.exists()

    result = sweep.run_sweep(experiment, nobody, resume=True)
    assert handed_out[1] == ["0002", "0003", "0004", "0005", "0006", "0007"]
    trials = open_study(experiment, experiment.search, run).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * WANTED
    assert [row.outcome for row in result.board] == ["completed"] * WANTED


def test_the_command_ends_with_one_line_that_says_what_to_type(
    sweeps: tuple[Experiment, list[list[str]]], run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raytune_ft import api

    monkeypatch.setattr(api, "run_sweep", lambda experiment, **kwargs: sweep.run_sweep(experiment, nobody))
    experiment, _ = sweeps
    with pytest.raises(LanesLost) as lost:
        verbs.sweep_with_table(experiment, resume=False, again="raytune-ft sweep --resume e.yaml")
    assert str(lost.value).endswith("the others stay open; to go on: raytune-ft sweep --resume e.yaml")


def test_how_long_an_outage_is_waited_for_may_change_when_a_sweep_is_resumed(
    sweeps: tuple[Experiment, list[list[str]]], run: RunDirectory
) -> None:
    experiment, handed_out = sweeps
    with pytest.raises(LanesLost):
        sweep.run_sweep(experiment, nobody)
    resources = experiment.resources.model_copy(update={"outage_timeout_s": 7200.0})
    sweep.run_sweep(experiment.model_copy(update={"resources": resources}), nobody, resume=True)
    assert len(handed_out) == 2
