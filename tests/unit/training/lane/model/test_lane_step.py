"""Each switch of the step changes its cost, not its numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from raytune_ft.training.lane.model.base import map_weights
from raytune_ft.training.lane.ranks import Ranks

SWITCHES: list[dict[str, Any]] = [
    {"loss_positions_only": False},
    {"padding_free": False},
    {"fused": False},
    {"round_tokens": 1},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: next(iter(switch)))
def test_a_switch_of_the_step_leaves_the_curve_as_it_is(lane_world, switch: dict[str, Any]) -> None:
    curves = []
    for name, step in (("on", {}), ("off", switch)):
        world = lane_world(
            train={"max_steps": 10, "eval_steps": 2}, output_dir=name, runner={"type": "lane", "step": step}
        )
        trial = f"{name}-0"
        world.lane(world.start(trial))
        curves.append([value for _, train, evaluation in world.losses(trial) for value in (train, evaluation)])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


@pytest.mark.parametrize("kernel", ["eager", "sdpa", "flash_attention_2"])
def test_each_kernel_of_attention_is_used_and_leaves_the_curve_as_it_is(lane_world, kernel: str) -> None:
    """PyTorch has a flash kernel for CPUs too, so that the switch to it shows here; `check` allows it on GPUs alone."""
    curves, used = [], []
    for name, attention in (("auto", "auto"), ("other", kernel)):
        world = lane_world(output_dir=name, train={"attn_implementation": attention})
        with torch.profiler.profile() as profile:
            world.lane(world.start(f"{name}-0"))
        used.append({event.key for event in profile.key_averages()})
        curves.append([value for _, *losses in world.losses(f"{name}-0") for value in losses])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert "aten::scaled_dot_product_attention" not in used[0]
    assert ("aten::scaled_dot_product_attention" in used[1]) == (kernel != "eager")
    assert kernel != "flash_attention_2" or "aten::_scaled_dot_product_flash_attention_for_cpu" in used[1]


def test_a_lane_without_a_flash_kernel_for_its_base_says_so_before_the_first_step() -> None:
    from transformers import LlamaConfig

    from raytune_ft.training.lane.model.attention import check_flash

    config = LlamaConfig(num_attention_heads=4, num_key_value_heads=2, hidden_size=128)
    check_flash(config, torch.bfloat16, "cpu")
    with pytest.raises(
        ValueError, match=r"^train\.attn_implementation: flash_attention_2: .* in int8; use sdpa or auto$"
    ):
        check_flash(config, torch.int8, "cpu")


def test_what_trained_with_a_lanes_flash_kernel_is_evaluated_without_the_package_flash_attn(toy_experiment) -> None:
    from raytune_ft.config.load import load_experiment
    from raytune_ft.methods.weights.base_model import load_base

    train = {"dtype": "float32", "attn_implementation": "flash_attention_2"}
    assert load_base(load_experiment(toy_experiment(train=train))).config._attn_implementation == "sdpa"


def test_recomputed_activations_leave_the_curve_as_it_is(lane_world) -> None:
    curves = []
    for name, recompute in (("0000", False), ("0001", True)):
        method = {"type": "lora", "r": 8, "alpha": 16, "dropout": 0.1}
        world = lane_world(train={"gradient_checkpointing": recompute}, method=method)
        world.lane(world.start(name))
        curves.append([value for _, train, evaluation in world.losses(name) for value in (train, evaluation)])
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)


def test_the_base_is_mapped_from_its_file_and_no_gradient_is_made_for_it(lane_world) -> None:
    world = lane_world()
    file = Path(world.experiment.base_model) / "model.safetensors"
    assert map_weights(world.base.model, file.parent) > 0.9 * file.stat().st_size
    before = {name: parameter.clone() for name, parameter in world.base.model.named_parameters()}
    world.lane(world.start("0000"))
    for name, parameter in world.base.model.named_parameters():
        assert parameter.grad is None and not parameter.requires_grad
        assert torch.equal(parameter, before[name])


def _rank(rank: int, size: int, experiment: str, root: str, stage: int) -> None:
    import torch.distributed as dist

    from raytune_ft.config.experiment import Experiment
    from raytune_ft.config.training import DeepSpeed, Lane
    from raytune_ft.paths import RunDirectory
    from raytune_ft.training.lane.loop import LaneLoop
    from raytune_ft.training.lane.model.base import load_lane_base
    from raytune_ft.training.lane.orders import GoOn, Quit, Start
    from raytune_ft.training.spec import TrialSpec

    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29500 + os.getppid() % 1000)}
    dist.init_process_group("gloo", rank=rank, world_size=size)
    loaded = Experiment.model_validate_json(experiment)
    if stage:
        strategy = DeepSpeed(zero_stage=stage)  # type: ignore[arg-type]
        loaded = loaded.model_copy(update={"resources": loaded.resources.model_copy(update={"strategy": strategy})})
    specs = [TrialSpec.of(f"000{stage}", {}, loaded, RunDirectory(Path(root)))]

    class LaneOrders:
        waiting: list[Any] = [Start(spec) for spec in specs]  # noqa: RUF012

        def in_touch(self) -> bool:
            return True

        def orders(self, free: int, wait_s: float) -> list[Any]:
            found, self.waiting = self.waiting, []
            return found

        def report(self, trial: str, report: dict[str, Any]) -> None:
            self.waiting.append(GoOn(trial))

        def ended(self, trial: str, outcome: Any) -> None:
            self.waiting = [Quit()]

    lane = Lane(packed=1)
    base = load_lane_base(loaded, lane.step, share=True)
    LaneLoop(base, LaneOrders() if rank == 0 else None, Ranks.of_process_group(), lane, loaded).run()
    dist.barrier()
    os._exit(0)  # gloo's threads abort a process now and then that takes its group down


def test_two_workers_train_as_one_with_both_their_rows_under_ddp_and_zero(lane_world, tmp_path: Path) -> None:
    """Their rows' answers are of 1 to 12 tokens: each answer token counts as much as any other, whoever has it."""
    data: dict[str, Any] = {"max_length": 64}
    for split, numbers in {"train": range(160), "validation": range(160, 192)}.items():
        rows = [{"prompt": f"Swim {number}:", "completion": " yes" * (1 + number * 7 % 12)} for number in numbers]
        data[split] = str(tmp_path / f"unequal-{split}.jsonl")
        Path(data[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    world = lane_world(
        data=data,
        train={"max_steps": 8, "eval_steps": 2, "per_device_train_batch_size": 8},
    )
    for stage in (0, 1, 2):
        torch.multiprocessing.spawn(
            _rank, (2, world.experiment.model_dump_json(), str(world.run.root), stage), nprocs=2
        )
    world.lane(world.start("0009", train__per_device_train_batch_size=16))
    alone = [value for _, train, evaluation in world.losses("0009") for value in (train, evaluation)]
    for stage in (0, 1, 2):
        both = [value for _, train, evaluation in world.losses(f"000{stage}") for value in (train, evaluation)]
        assert both == pytest.approx(alone, rel=1e-3), stage
