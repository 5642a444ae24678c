"""A lane trains in each number type, and its processes share one copy of the base in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from raytune_ft.config.training import LaneStep
from raytune_ft.metrics.report import value_in
from raytune_ft.training.lane import loss_scale, trial
from raytune_ft.training.lane.model import weights_copy
from raytune_ft.training.lane.model.base import load_lane_base, map_weights
from raytune_ft.training.lane.model.weights_copy import weights_in


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_trial_in_16_bits_follows_the_curve_of_float32(lane_world, dtype: str) -> None:
    curves = {}
    for each in ("float32", dtype):
        world = lane_world(train={"dtype": each, "learning_rate": 3e-3, "max_steps": 8}, output_dir=each)
        name = f"{each}-0"
        desk = world.lane(world.start(name))
        assert desk.outcomes[name].kind == "completed"
        assert world.base.model.dtype == getattr(torch, each)
        curves[each] = [evaluation for _, _, evaluation in world.losses(name)]
    assert curves[dtype] == pytest.approx(curves["float32"], rel=0.03)


def test_a_step_that_overflows_in_float16_is_left_out_and_the_scale_goes_down(lane_world, monkeypatch) -> None:
    monkeypatch.setattr(loss_scale, "BEGIN", 2.0**40)
    scales: list[float] = []

    class Watched(loss_scale.LossScale):
        def overflowed(self) -> bool:
            scales.append(self.factor)
            return super().overflowed()

    monkeypatch.setattr(trial.LossScale, "of", staticmethod(lambda dtype: Watched(2.0**40, fixed=False)))
    world = lane_world(train={"dtype": "float16", "max_steps": 40, "eval_steps": 40})
    desk = world.lane(world.start("0000"))
    assert desk.outcomes["0000"].kind == "completed" and scales[0] == 2.0**40 and 5 < len(scales) < 38
    first, last = desk.reports["0000"][-1]["train_loss"], value_in(desk.reports["0000"][-1], "eval_loss")
    assert first < 20 and last < first  # losses are told unscaled, and the steps after the overflows have trained


def test_a_trial_goes_on_with_the_scale_that_it_had(lane_world) -> None:
    world = lane_world(train={"dtype": "float16", "max_steps": 6, "eval_steps": 2})
    world.lane(world.start("0000"), drops={"0000": 4})
    world.lane(world.start("0000"))
    resumed = world.losses("0000")
    other = lane_world(train={"dtype": "float16", "max_steps": 6, "eval_steps": 2}, output_dir="other")
    other.lane(other.start("0001"))
    assert [step for step, *_ in resumed] == [2, 4, 6]
    assert resumed[-1][2] == pytest.approx(other.losses("0001")[-1][2], rel=1e-3)


def test_lanes_in_another_type_than_the_files_map_one_copy_that_equals_the_base(lane_world, tmp_path) -> None:
    world = lane_world(train={"dtype": "bfloat16"})  # the tiny base's files hold float32
    base = Path(world.experiment.base_model)
    copy = weights_in(base, torch.bfloat16, may_copy=True)
    assert (
        copy is not None
        and copy.is_relative_to(tmp_path / "cache")
        and weights_in(base, torch.float32, may_copy=True) == base
    )
    cast, own = load_file(copy / "model.safetensors"), load_file(base / "model.safetensors")
    assert all(torch.equal(cast[name], tensor.bfloat16()) for name, tensor in own.items())
    model = load_lane_base(world.experiment, LaneStep(), share=True).model
    mapped = map_weights(model, copy)
    assert mapped > 0.9 * (copy / "model.safetensors").stat().st_size
    assert weights_in(base, torch.bfloat16, may_copy=False) == copy  # made once


def test_a_copy_that_does_not_equal_the_base_is_not_used_and_one_lane_makes_none(lane_world) -> None:
    world = lane_world()
    base = Path(world.experiment.base_model)
    assert weights_in(base, torch.float16, may_copy=False) == base  # its own, of which none is shared
    copy = weights_in(base, torch.bfloat16, may_copy=True)
    assert copy is not None
    file = copy / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-2000] + b"\x11" * 2000)
    model = load_lane_base(world.experiment.computing_in("bfloat16"), LaneStep(), share=True).model
    assert map_weights(model, copy) < len(whole) - 2000


def test_a_copy_that_lost_bytes_or_has_no_room_costs_sharing_and_no_trial(lane_world, monkeypatch) -> None:
    world = lane_world()
    base = Path(world.experiment.base_model)
    copy = weights_in(base, torch.bfloat16, may_copy=True)
    assert copy is not None
    (copy / "model.safetensors").write_bytes(b"")
    half = world.experiment.computing_in("bfloat16")
    assert load_lane_base(half, LaneStep(), share=True).model.dtype == torch.bfloat16
    assert not copy.exists()  # the next lane makes another
    monkeypatch.setattr(weights_copy, "ROOM", 1e12)
    assert weights_in(base, torch.bfloat16, may_copy=True) == base
    monkeypatch.setattr(weights_copy, "_cache", refuse)
    assert weights_in(base, torch.bfloat16, may_copy=True) == base


def refuse() -> Path:
    raise RuntimeError("no home directory")
