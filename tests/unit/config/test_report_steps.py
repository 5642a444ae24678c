"""When a trial reports: the scheduler's rungs, its own evaluations, and the last step."""

from __future__ import annotations

import pytest

from raytune_ft.config.experiment import Experiment


def experiment(max_steps: int, eval_steps: int | None = None, scheduler: object = None) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "e",
            "base_model": "b",
            "data": {"train": "t"},
            "train": {"max_steps": max_steps, "eval_steps": eval_steps},
            "search": scheduler and {"space": {"parameters": {"method.r": {"choice": [8]}}}, "scheduler": scheduler},
        }
    )


def asha(grace_period: int, reduction_factor: int) -> dict[str, object]:
    return {"type": "asha", "grace_period": grace_period, "reduction_factor": reduction_factor}


@pytest.mark.parametrize(
    ("max_steps", "eval_steps", "scheduler", "rungs", "steps"),
    [
        (45, None, asha(5, 3), (5, 15), (5, 15, 45)),
        (44, None, asha(5, 3), (5, 15), (5, 15, 44)),
        (46, None, asha(5, 3), (5, 15, 45), (5, 15, 45, 46)),
        (16, 4, asha(4, 2), (4, 8), (4, 8, 12, 16)),
        (10, 4, asha(3, 2), (3, 6), (3, 4, 6, 8, 10)),
        (5, None, asha(5, 3), (5,), (5,)),
        (1, None, asha(1, 2), (1,), (1,)),
        (10, 100, asha(10, 2), (10,), (10,)),
        (10, 3, {"type": "none"}, (), (3, 6, 9, 10)),
        (10, None, {"type": "none"}, (), (10,)),
        (10, 5, None, (), (5, 10)),
    ],
)
def test_a_trial_reports_at_rungs_evaluations_and_its_end(max_steps, eval_steps, scheduler, rungs, steps) -> None:
    built = experiment(max_steps, eval_steps, scheduler)
    assert built.rungs() == rungs
    assert built.report_steps() == steps


def test_the_rungs_are_those_of_ray_tune() -> None:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    for max_steps, grace_period, factor in ((45, 5, 3), (100, 10, 3), (81, 1, 3), (64, 1, 2), (7, 3, 4)):
        built = experiment(max_steps, None, asha(grace_period, factor))
        rays = AsyncHyperBandScheduler(max_t=max_steps + 1, grace_period=grace_period, reduction_factor=factor)
        theirs = {rung for rung, _ in rays._brackets[0]._rungs if rung < max_steps}
        assert theirs == {rung for rung in built.rungs() if rung < max_steps}
