"""Which schedulers take which spaces and algorithms; what can't work is refused before anything starts."""

from __future__ import annotations

import pytest

from raytune_ft.config.search.schedulers import PAUSING
from raytune_ft.errors import InputError
from raytune_ft.execution.runner import choose_runner

RATE = {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}}
RANK = {"method.r": {"choice": [4, 8]}}
STEPS = {"train.max_steps": {"choice": [10, 20]}}
STEPS_WHERE_CONSTANT = {"train.max_steps": {"choice": [10, 20], "when": {"train.lr_scheduler_type": "constant"}}}
SHAPES = {"train.lr_scheduler_type": {"choice": ["constant", "cosine"]}}
UNLIKE = "compares trials at one step, where train.lr_scheduler_type"
DROPOUT = {"method.dropout": {"uniform": [0.0, 0.2], "when": {"method.r": 4}}}
CHOICE = {"train.learning_rate": {"choice": [1e-4, 1e-3]}}


@pytest.fixture
def load(toy_experiment):
    from raytune_ft.config.load import load_experiment

    def make(scheduler: dict, space: dict = RATE, algorithm: str = "tpe", **changes):
        search = {"space": {"parameters": space}, "scheduler": scheduler, "algorithm": {"type": algorithm}, "trials": 2}
        train = {"max_steps": 20, "dtype": "float32", "per_device_train_batch_size": 4}
        return load_experiment(toy_experiment(**{"search": search, "train": train, **changes}))

    return make


@pytest.mark.parametrize(
    ("scheduler", "space", "algorithm"),
    [
        ({"type": "hyperband", "grace_period": 5}, RATE | RANK, "random"),
        ({"type": "bohb", "grace_period": 5}, RATE | RANK, "gp"),
        ({"type": "median", "grace_period": 5}, RATE | STEPS, "random"),
        ({"type": "asha", "grace_period": 5}, STEPS, "tpe"),
        ({"type": "asha", "grace_period": 5}, SHAPES | STEPS_WHERE_CONSTANT, "tpe"),
        ({"type": "pbt", "perturbation_interval": 5}, RATE | STEPS, "tpe"),
        ({"type": "pbt", "perturbation_interval": 5}, CHOICE | RANK, "random"),
        ({"type": "pbt", "perturbation_interval": 5}, DROPOUT | RANK, "random"),
        ({"type": "pb2", "perturbation_interval": 5}, RATE | RANK, "random"),
    ],
)
def test_what_fits_is_taken(load, scheduler, space, algorithm) -> None:
    experiment = load(scheduler, space, algorithm)
    assert experiment.rungs() and set(experiment.rungs()) < set(experiment.report_steps())


@pytest.mark.parametrize(
    ("scheduler", "space", "algorithm", "line"),
    [
        ({"type": "hyperband", "grace_period": 5}, STEPS, "tpe", "hyperband compares trials at fractions of one"),
        ({"type": "asha", "grace_period": 5}, STEPS | SHAPES, "tpe", f"asha {UNLIKE} cosine has come to other rates"),
        ({"type": "median", "grace_period": 5}, STEPS | SHAPES, "tpe", f"median {UNLIKE} cosine has come to"),
        ({"type": "pbt", "perturbation_interval": 5}, STEPS | SHAPES | RATE, "tpe", f"pbt {UNLIKE} cosine has"),
        ({"type": "bohb", "grace_period": 5}, RATE, "random", "algorithm random has none; use scheduler hyperband"),
        ({"type": "bohb", "grace_period": 5}, RATE, "quasi_random", "algorithm quasi_random has none"),
        ({"type": "pbt"}, RANK, "tpe", "pbt changes settings while trials train, and the space searches none that can"),
        ({"type": "pb2"}, CHOICE, "tpe", "pb2 changes ranges while trials train, and the space searches none that can"),
        ({"type": "pb2"}, DROPOUT | RANK, "tpe", "method.dropout.when: pb2 models only settings that every trial has"),
        ({"type": "hyperband", "grace_period": 21}, RATE, "tpe", "grace_period 21 is above train.max_steps 20"),
        ({"type": "median", "grace_period": 21}, RATE, "tpe", "grace_period 21 is above train.max_steps 20"),
        ({"type": "pbt", "perturbation_interval": 20}, RATE, "tpe", "perturbation_interval 20 is not below"),
    ],
)
def test_what_can_not_work_is_one_line_with_its_place(load, scheduler, space, algorithm, line) -> None:
    with pytest.raises(InputError) as caught:
        load(scheduler, space, algorithm)
    message = str(caught.value)
    assert line in message and "\n" not in message and "toy.yaml" in message


@pytest.mark.parametrize("kind", PAUSING)
def test_isolated_trials_can_not_be_paused_and_the_obstacle_is_named(load, kind: str) -> None:
    scheduler = {"type": kind} | ({"grace_period": 5} if kind in ("hyperband", "bohb") else {})
    for changes, why in (
        ({"runner": {"type": "isolated"}}, "the experiment asks for isolated"),
        ({"resources": {"strategy": {"type": "deepspeed", "zero_stage": 3}}}, "zero_stage 3 shards the base"),
    ):
        with pytest.raises(InputError, match=why) as caught:
            choose_runner(load(scheduler, **changes))
        assert f"{kind} pauses trials, which only lanes can" in str(caught.value)
        assert str(caught.value).endswith("use asha, median or none")
    assert choose_runner(load(scheduler)).runner.type == "lane"


def test_the_median_rule_and_asha_run_with_isolated_trials(load) -> None:
    for kind in ("asha", "median"):
        experiment = load({"type": kind, "grace_period": 5}, runner={"type": "isolated"})
        assert choose_runner(experiment).runner.type == "isolated"


@pytest.mark.parametrize("shape", ["linear", "cosine", "warmup_stable_decay"])
def test_trials_of_unlike_length_are_compared_only_where_their_rates_are_alike(load, shape) -> None:
    """At step 10 the rate of a trial of 10 steps has decayed, and that of one of 20 has not."""
    train = {"max_steps": 20, "lr_scheduler_type": shape, "dtype": "float32", "per_device_train_batch_size": 4}
    with pytest.raises(InputError, match=f"toy.yaml:.*train.max_steps: asha compares .*{shape} .*or scheduler none"):
        load({"type": "asha", "grace_period": 5}, STEPS, train=train)
    assert load({"type": "none"}, STEPS, train=train).longest == 20
    assert load({"type": "asha", "grace_period": 5}, train=train).longest == 20
