"""Layers of one input are computed together, where they may be."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from raytune_ft.training.lane.model import lora

TOGETHER = {3: 2, 2: 2, 1: 4}  # of the two layers: q, k and v; gate and up; o and down by themselves
ALONE = {1: 14}


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """How many layers at once -> how often, since it was cleared."""
    calls: dict[int, int] = {}
    real = lora.adapted

    def counted(x: torch.Tensor, layers: list[Any], *rest: Any) -> Any:
        calls[len(layers)] = calls.get(len(layers), 0) + 1
        return real(x, layers, *rest)

    monkeypatch.setattr(lora, "adapted", counted)
    return calls


def one_pass(world: Any, *parameters: dict[str, Any], grouped: bool) -> list[torch.Tensor]:
    """The trials' gradients after one pass."""
    from raytune_ft.data.arrow_rows import ArrowRows
    from raytune_ft.training.lane.packing.together import step_together
    from raytune_ft.training.lane.ranks import Ranks
    from raytune_ft.training.lane.step import Stepper
    from raytune_ft.training.lane.trial import RunningTrial, Splits

    world.base.grouped = grouped
    splits = Splits(*(ArrowRows(world.run.data / split) for split in ("train", "validation")))
    trials = []
    for number, changes in enumerate(parameters):
        start = world.start(f"{number:04d}", **changes)
        trial = RunningTrial(start.spec, world.base, splits, Ranks(), None)
        generator = torch.Generator().manual_seed(number)
        trial.adapter.weights.normal_(0.0, 0.02, generator=generator)  # else b is zero, and so is what flows back
        trial.adapter.refresh()
        trials.append(trial)
    step_together(Stepper(world.base, world.settings.step), trials, Ranks())
    return [trial.adapter.grad.clone() for trial in trials]


@pytest.mark.parametrize("grouped", [False, True], ids=["loop", "grouped"])
def test_together_they_give_the_gradients_that_they_give_one_by_one(
    lane_world, grouped: bool, seen: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = lane_world()
    mixed: tuple[dict[str, Any], ...] = ({"method__r": 4}, {"method__r": 16, "seed": 1})
    together = one_pass(world, *mixed, grouped=grouped)
    assert seen == TOGETHER
    seen.clear()
    monkeypatch.setattr(lora.Siblings, "output", lambda *_: None)
    alone = one_pass(world, *mixed, grouped=grouped)
    assert seen == ALONE
    for one, other in zip(together, alone, strict=True):
        assert float(one.norm()) > 0.0
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_layers_that_not_every_trial_adapts_or_that_drop_are_computed_one_by_one(
    lane_world, seen: dict[int, int]
) -> None:
    one_pass(lane_world(), {}, {"method__target_modules": ["q_proj", "v_proj"]}, grouped=True)
    assert 3 not in seen and seen[2] == 2  # gate and up are the first trial's alone
    seen.clear()
    one_pass(lane_world(output_dir="dropping"), {"method__dropout": 0.2}, grouped=True)
    assert seen == ALONE


def test_nothing_of_a_pass_that_found_no_memory_stays(lane_world, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = lora.outputs, []

    def fails_at_the_second_layer(x: torch.Tensor, layers: Any, pack: Any) -> Any:
        if len(layers) == 2:
            seen.append(weakref.ref(x))
        if len(seen) == 2:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory")
        return real(x, layers, pack)

    monkeypatch.setattr(lora, "outputs", fails_at_the_second_layer)
    world = lane_world()
    one_pass(world, {}, grouped=True)
    gc.collect()
    assert len(seen) == 2 and [each() for each in seen] == [None, None]
