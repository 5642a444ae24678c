"""What a sweep makes of a trial that left no outcome, and of a cluster that is too small."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from raytune_ft.config.training import Isolated, Lane
from raytune_ft.errors import InputError
from raytune_ft.events.stream import nobody
from raytune_ft.execution.runner import Choice
from raytune_ft.paths import write_json
from raytune_ft.search import on_cluster, sweep
from raytune_ft.search.trials import trials
from raytune_ft.search.trials.decide import decide_outcome, steps_of
from raytune_ft.training.outcome import OutcomeKind


@pytest.mark.parametrize(
    ("result", "kind", "reason"),
    [
        ({}, OutcomeKind.failed, "the trial's process failed; see Ray's logs"),
        ({"step": 15, "eval_loss": 0.5, "seconds": 3.0}, OutcomeKind.pruned, "stopped by asha at step 15"),
        ({"step": 45, "eval_loss": 0.5, "seconds": 9.0}, OutcomeKind.completed, "ran all 45 steps"),
    ],
)
def test_a_trial_without_an_outcome_was_stopped_or_lost(make_experiment, result, kind, reason) -> None:
    experiment = make_experiment()
    outcome = decide_outcome(None, result, experiment.search, 45)
    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert outcome.value == result.get("eval_loss")


def test_a_trial_ran_to_its_end_when_it_took_its_own_steps(make_experiment, run) -> None:
    """Settings of `train` may be searched, `max_steps` too."""
    experiment, trial = make_experiment(), run.trial("0000")
    result = {"step": 45, "eval_loss": 0.5, "seconds": 9.0}
    assert steps_of(experiment, trial) == 45
    write_json(trial.config, {"trial": "0000", "parameters": {"train.max_steps": 90}})
    outcome = decide_outcome(None, result, experiment.search, steps_of(experiment, trial))
    assert (outcome.kind, outcome.reason) == (OutcomeKind.pruned, "stopped by asha at step 45")


@pytest.mark.parametrize("runner", [Isolated(), Lane()])
def test_a_sweep_that_the_cluster_can_not_hold_may_be_called_again_with_other_settings(
    make_experiment, run, runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_small(*_: object, **__: object) -> None:
        raise InputError("resources", "too small")

    monkeypatch.setattr(sweep, "prepare", lambda *args, **kwargs: None)
    monkeypatch.setattr(on_cluster, "ray_cluster", lambda **_: nullcontext())
    monkeypatch.setattr(sweep, "choose_runner", lambda experiment: Choice(runner, "it does not matter"))
    monkeypatch.setattr(trials, "check_resources", too_small)
    for workers in (4, 2):
        experiment = make_experiment().model_copy(update={"output_dir": str(run.root.parent)})
        resources = experiment.resources.model_copy(update={"workers": workers})
        with pytest.raises(InputError, match="resources: too small"):
            sweep.run_sweep(experiment.model_copy(update={"resources": resources}), nobody)
        assert not run.trials.exists()
