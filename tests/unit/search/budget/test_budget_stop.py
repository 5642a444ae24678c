"""How a study ends whose budget is used up, driven by hand as Ray Tune drives it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from raytune_ft.errors import InputError
from raytune_ft.events.kinds import Ended, Event
from raytune_ft.events.stream import nobody
from raytune_ft.paths import RunDirectory, write_json
from raytune_ft.search.budget.accounts import Accounts
from raytune_ft.search.budget.budget_stop import BudgetStop
from raytune_ft.search.budget.spent import Meter
from raytune_ft.search.planning import prices
from raytune_ft.search.session import Session
from raytune_ft.search.study.resume import check_same_experiment
from raytune_ft.search.study.searcher import TRIAL
from raytune_ft.search.trials.ends import TrialEnds
from raytune_ft.search.trials.kept_checkpoints import KeptCheckpoints
from raytune_ft.search.trials.trials import Trials
from raytune_ft.training.outcome import Outcome, OutcomeKind


@dataclass
class TuneTrial:
    status: str


@dataclass
class Controller:
    trials: list[TuneTrial]
    stopped: list[TuneTrial] = field(default_factory=list)

    def get_trials(self) -> list[TuneTrial]:
        return self.trials

    def stop_trial(self, trial: TuneTrial) -> None:
        """As Hyperband's bracket does: the end of a paused trial lets another one go on."""
        trial.status = "TERMINATED"
        self.stopped.append(trial)
        for other in self.trials:
            if other.status == "PAUSED":
                other.status = "PENDING"
                break


class Scheduler:
    """Would run any trial that waits."""

    def choose_trial_to_run(self, controller: Controller) -> TuneTrial | None:
        return next((trial for trial in controller.get_trials() if trial.status in ("PENDING", "PAUSED")), None)


@pytest.fixture
def open_accounts(make_experiment, run: RunDirectory) -> Callable[..., Accounts]:
    def opened(**search: Any) -> Accounts:
        experiment = make_experiment(**search)
        return Accounts(experiment, experiment.search, run)

    return opened


def result(trial: str, step: int, tokens: int) -> dict[str, Any]:
    return {"config": {TRIAL: trial}, "step": step, "tokens": tokens, "eval_loss": 0.5, "seconds": 1.0, "time": step}


def test_running_trials_end_at_their_next_report_once_the_tokens_are_used_up(
    run: RunDirectory, make_experiment
) -> None:
    stop = BudgetStop(make_experiment(budget={"tokens": 1000}).search.budget, Meter(run.spent, 1))
    assert not stop("a", result("0000", 5, 600)) and stop.reason is None
    assert stop("b", result("0001", 5, 500))
    assert stop("a", result("0000", 15, 700)) and not stop.stop_all()
    assert stop.reason == "the budget's 1,000 tokens are used up"


def test_what_waits_ends_at_once_and_nothing_starts_any_more(open_accounts) -> None:
    accounts, scheduler = open_accounts(budget={"tokens": 1000}), Scheduler()
    accounts.attend(scheduler, Trials(None, lambda trial: None, lambda: 1, groups=1))
    trials = [TuneTrial(status) for status in ("RUNNING", "PAUSED", "PENDING", "PAUSED", "TERMINATED")]
    controller = Controller(trials)
    assert scheduler.choose_trial_to_run(controller) is trials[1] and not controller.stopped
    assert accounts.stop is not None and accounts.stop("a", result("0000", 5, 1000))
    assert scheduler.choose_trial_to_run(controller) is None
    assert [trial.status for trial in trials] == ["RUNNING", *["TERMINATED"] * 4]
    assert len(controller.stopped) == 3


def test_a_trial_that_the_budget_stopped_is_pruned_with_the_reason_and_its_last_value(
    open_accounts, make_experiment, run: RunDirectory, ended
) -> None:
    accounts, trials = open_accounts(budget={"tokens": 1000}), Trials(None, lambda trial: None, lambda: 1, groups=1)
    accounts.attend(Scheduler(), trials)
    experiment, told = make_experiment(), list[Event]()
    session = Session(experiment, experiment.search, run, None, accounts, told.append, print)
    ends = TrialEnds(session, trials, KeptCheckpoints(experiment, run, []), [])
    assert ends.outcome_of("0005", result("0005", 15, 900)).reason == "stopped by asha at step 15"
    accounts.stop("a", result("0000", 15, 1200))
    outcome = ends.outcome_of("0000", result("0000", 15, 1200))
    assert told[-1] == Ended("0000", outcome) and Outcome.read(run.trial("0000")) == outcome
    assert (outcome.kind, outcome.step, outcome.value) == (OutcomeKind.pruned, 15, 0.5)
    assert outcome.reason == "the budget's 1,000 tokens are used up at step 15"
    assert ends.outcome_of("0006", result("0006", 45, 1200)).reason == "ran all 45 steps"

    for name, steps in (("0003", 15), ("0004", 90)):  # its own, where they are searched
        write_json(run.trial(name).config, {"trial": name, "parameters": {"train.max_steps": steps}})
    assert ends.outcome_of("0003", result("0003", 15, 1200)).reason == "ran all 15 steps"
    assert ends.outcome_of("0004", result("0004", 45, 1200)).reason.endswith(" are used up at step 45")

    ended("0001", "completed", {5: 0.9, 15: 0.7})  # Tune had paused it, and has no result
    run.trial("0001").outcome.unlink()
    paused = ends.outcome_of("0001", {})
    assert (paused.kind, paused.step, paused.value) == (OutcomeKind.pruned, 15, 0.7)
    never = ends.outcome_of("0002", {})
    assert (never.step, never.value) == (0, None) and never.reason.endswith(" are used up before its first report")


def test_a_closed_study_is_refused_until_its_limit_is_raised(open_accounts, make_experiment, run: RunDirectory) -> None:
    first = open_accounts(budget={"tokens": 1000})
    first.attend(Scheduler(), Trials(None, lambda trial: None, lambda: 1, groups=1))
    first.stop("a", result("0000", 5, 1200))
    first.check_open(3)  # used up, but no driver has closed it
    assert first.close(3).startswith("the budget's 1,000 tokens are used up (1,200 tokens, ")
    again = open_accounts(budget={"tokens": 1000})
    with pytest.raises(
        InputError, match=r"closed with 3 of 8 trials, as the budget's 1,000 tokens .*; raise search.budget.tokens"
    ):
        again.check_open(3)
    raised = open_accounts(budget={"tokens": 5000})
    raised.check_open(3)
    assert raised.reason is None


def test_a_budget_may_change_when_a_study_is_resumed(make_experiment, run: RunDirectory) -> None:
    from raytune_ft.config.files.resolve import resolved_yaml
    from raytune_ft.paths import write_text

    write_text(run.experiment, resolved_yaml(make_experiment(budget={"tokens": 1000})))
    check_same_experiment(make_experiment(budget={"tokens": 2000, "cost": 3.0, "prices": {"cpu": 0.1}}), run)
    with pytest.raises(InputError, match=r"search\.space"):
        check_same_experiment(make_experiment(budget={}, space={"parameters": {"method.r": {"choice": [2]}}}), run)


@pytest.mark.parametrize(
    ("nodes", "gpus", "table", "price"),
    [
        ([{"CPU": 8}], 0, {"cpu": 0.05, "gpu": 2.0}, 0.05),
        ([{"GPU": 8, "accelerator_type:H100": 1}], 1, {"H100": 4.0, "gpu": 2.0}, 4.0),
        ([{"GPU": 8, "accelerator_type:A10G": 1}], 1, {"H100": 4.0, "gpu": 2.0}, 2.0),
        ([{"GPU": 8}], 1, {"gpu": 2.0}, 2.0),
        (
            [{"GPU": 1, "accelerator_type:T4": 1}, {"GPU": 1, "accelerator_type:H100": 1}],
            1,
            {"T4": 1.0, "H100": 4.0},
            4.0,
        ),
        ([{"GPU": 8, "accelerator_type:A10G": 1}], 1, {"H100": 4.0}, None),
        ([{"CPU": 8}], 0, {"gpu": 4.0}, None),
    ],
)
def test_the_price_is_that_of_the_clusters_devices(
    make_experiment, monkeypatch: pytest.MonkeyPatch, nodes, gpus, table, price
) -> None:
    import ray

    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True, "Resources": node} for node in nodes])
    experiment = make_experiment(budget={"prices": table})
    resources = experiment.resources.model_copy(update={"gpus_per_worker": gpus})
    experiment = experiment.model_copy(update={"resources": resources})
    assert prices.device_price(experiment) == price
    limited = make_experiment(budget={"prices": table, "cost": 10.0}).model_copy(update={"resources": resources})
    if price is None:
        with pytest.raises(InputError, match=r"search\.budget\.prices: no price for "):
            prices.device_price(limited)
    else:
        assert prices.device_price(limited) == price


def test_trials_whose_driver_was_killed_after_the_budgets_end_are_ended_without_a_cluster(
    make_experiment, run: RunDirectory, ended
) -> None:
    from optuna.trial import TrialState

    from raytune_ft.search.study.study import open_study
    from raytune_ft.search.trials.leftovers import end_interrupted

    experiment = make_experiment(budget={"tokens": 1000})
    study = open_study(experiment, experiment.search, run)
    for name, curve in (("0000", {5: 0.9}), ("0001", {5: 0.9, 45: 0.5}), ("0002", {})):
        study.ask()
        ended(name, "completed", curve)
        run.trial(name).outcome.unlink()
    killed = Accounts(experiment, experiment.search, run)
    killed.attend(Scheduler(), Trials(None, lambda trial: None, lambda: 1, groups=1))
    killed.stop("a", result("0000", 5, 1200))
    accounts = Accounts(experiment, experiment.search, run)
    end_interrupted(Session(experiment, experiment.search, run, study, accounts, nobody, print))
    assert [trial.state for trial in study.trials] == [TrialState.PRUNED, TrialState.COMPLETE, TrialState.PRUNED]
    assert study.trials[0].user_attrs["reason"] == "the budget's 1,000 tokens are used up at step 5"
