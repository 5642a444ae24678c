"""Trials packed into shared passes: each is exactly the trial that it is alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raytune_ft.methods.weights.peft_files import ADAPTER_WEIGHTS
from raytune_ft.training.lane.checkpoint import find_beginning
from raytune_ft.training.lane.packing.layout import lay_out

TWENTY = {"max_steps": 20, "eval_steps": 1}
MIXED: dict[str, dict[str, Any]] = {
    "0000": {"method__r": 4, "train__per_device_train_batch_size": 8},
    "0001": {"method__r": 16, "method__alpha": 8, "train__per_device_train_batch_size": 2, "seed": 1},
    "0002": {"method__target_modules": ["q_proj", "v_proj"], "train__learning_rate": 3e-3},
    "0003": {"train__gradient_accumulation_steps": 3, "train__max_steps": 7, "method__dropout": 0.2, "seed": 2},
    "0004": {"train__lr_scheduler_type": "linear", "method__use_rslora": True, "train__max_grad_norm": 0.1},
}


def alone_and_packed(world: Any, packed: int, drops: dict[str, int] | None = None) -> None:
    """Runs every trial alone, then all packed under other names, and compares their curves."""
    world.lane(*[world.start(name, **parameters) for name, parameters in MIXED.items()], drops=drops)
    again = {name: f"1{name[1:]}" for name in MIXED}
    starts = [world.start(again[name], **parameters) for name, parameters in MIXED.items()]
    world.lane(*starts, packed=packed, drops={again[name]: step for name, step in (drops or {}).items()})
    for name in MIXED:
        alone, together = world.losses(name), world.losses(again[name])
        assert len(alone) == len(together) > 1
        assert together[0][1] == pytest.approx(alone[0][1], rel=1e-6)
        for (_, train, evaluation), (_, packed_train, packed_evaluation) in zip(alone, together, strict=True):
            assert packed_train == pytest.approx(train, rel=1e-4)
            assert packed_evaluation == pytest.approx(evaluation, rel=1e-4)


@pytest.mark.parametrize("grouped", [False, True], ids=["loop", "grouped"])
def test_mixed_trials_that_join_and_leave_have_the_curves_they_have_alone(lane_world, grouped: bool) -> None:
    world = lane_world(train=TWENTY)
    world.base.grouped = grouped
    alone_and_packed(world, packed=3, drops={"0001": 9})  # the fourth joins where the second leaves


def test_rows_that_are_padded_are_padded_as_in_the_trial_alone() -> None:
    """Else dropout's masks, which are drawn for all of a trial's cells, would be others."""
    short, long = ([(np.arange(1, n), np.arange(1, n)) for n in lengths] for lengths in ((4, 6), (10, 3)))
    alone, together = (lay_out(trials, padding_free=False) for trials in ([short], [long, short]))
    start, end = together.segments[1]
    assert alone.segments == ((0, end - start),)
    assert torch.equal(together.input_ids[start:end], alone.input_ids[: end - start])


def test_a_scale_is_not_rounded_to_the_bases_type() -> None:
    from raytune_ft.training.lane.model.adapter import LoraWeights
    from raytune_ft.training.lane.model.pack import Pack

    none = torch.zeros(2, 4)
    weights = LoraWeights(a=none, b=none.T, grad_a=none, grad_b=none.T, scale=20 / 12)
    tokens = torch.ones(3, 4, dtype=torch.bfloat16)
    layout = lay_out([[(np.arange(3), np.arange(3))]])
    mask = Pack(layout, []).mask([(1, 3, weights)], 1, tokens)
    assert mask.tolist() == [[0.0, 0.0], *[[pytest.approx(20 / 12, rel=1e-6)] * 2] * 2]
    inner = torch.full((3, 2), 3.0, dtype=torch.bfloat16)
    assert inner.mul_(mask)[1, 0] == 5.0 and inner.dtype == torch.bfloat16


def test_a_packed_trial_that_diverges_leaves_the_others_as_they_are(lane_world) -> None:
    for grouped in (False, True):
        world = lane_world(train=TWENTY, output_dir=f"runs-{grouped}")
        world.base.grouped = grouped
        name = f"{grouped:d}"
        world.lane(world.start(f"0{name}00"))
        desk = world.lane(
            world.start(f"1{name}00"),
            world.start(f"2{name}00", train__learning_rate=10.0, train__divergence_factor=1.5),
            packed=2,
        )
        assert desk.outcomes[f"2{name}00"].kind == "diverged"
        assert desk.outcomes[f"1{name}00"].kind == "completed"
        for (_, alone, _), (_, packed, _) in zip(world.losses(f"0{name}00"), world.losses(f"1{name}00"), strict=True):
            assert packed == pytest.approx(alone, rel=1e-4)


@pytest.mark.parametrize("first", [False, True], ids=["nan last", "nan first"])
@pytest.mark.parametrize("grouped", [False, True], ids=["loop", "grouped"])
def test_a_nan_in_one_trial_stays_there(lane_world, grouped: bool, first: bool) -> None:
    world = lane_world(train=TWENTY)
    world.base.grouped = grouped
    world.lane(world.start("0000"))
    poisoned = world.start("0001", seed=1)
    world.lane(poisoned, drops={"0001": 1})
    _poison(world.run.trial("0001").checkpoints / "step-000001")
    starts = [world.start("0002"), poisoned]
    desk = world.lane(*(reversed(starts) if first else starts), packed=2)
    assert desk.outcomes["0001"].kind == "diverged"
    assert desk.outcomes["0002"].kind == "completed"
    for (_, alone, _), (_, packed, _) in zip(world.losses("0000"), world.losses("0002"), strict=True):
        assert packed == pytest.approx(alone, rel=1e-4)


def _poison(checkpoint: Path) -> None:
    from raytune_ft.training.lane.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

    whole = read_checkpoint(checkpoint)
    weights = {name: torch.full_like(tensor, float("nan")) for name, tensor in whole.weights.items()}
    write_checkpoint(checkpoint, Checkpoint(weights, whole.optimizer, whole.config, whole.trainer))


def test_the_adapter_loads_in_peft_to_the_same_logits(lane_world) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from raytune_ft.data.arrow_rows import ArrowRows
    from raytune_ft.training.lane.model.pack import Pack
    from raytune_ft.training.lane.ranks import Ranks
    from raytune_ft.training.lane.trial import RunningTrial, Splits

    world = lane_world()
    world.lane(*[world.start(name, **parameters) for name, parameters in MIXED.items()], packed=3)
    splits = Splits(ArrowRows(world.run.data / "train"), ArrowRows(world.run.data / "validation"))
    for name, parameters in MIXED.items():
        beginning = find_beginning(world.run.trial(name).checkpoints, None)
        trial = RunningTrial(world.start(name, **parameters).spec, world.base, splits, Ranks(), beginning)
        directory = world.run.trial(name).checkpoints / f"step-{trial.step:06d}"
        assert (directory / ADAPTER_WEIGHTS).is_file()
        plain = AutoModelForCausalLM.from_pretrained(world.experiment.base_model, dtype=torch.float32)
        tuned = PeftModel.from_pretrained(plain, str(directory)).eval()
        layout = lay_out([[splits.validation[0]]])
        with torch.no_grad():
            mine = world.base.hidden_states(Pack(layout, [trial.adapter])) @ world.base.head().T
            theirs = tuned(input_ids=layout.input_ids[None]).logits[0]
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
