"""Each switch of the step changes its cost, not its numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from raytune_ft.training.lane.base import map_weights
from raytune_ft.training.lane.ranks import Ranks

SWITCHES: list[dict[str, Any]] = [
    {"loss_positions_only": False},
    {"padding_free": False},
    {"attention": "sdpa"},
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
    from raytune_ft.training.lane.base import load_lane_base
    from raytune_ft.training.lane.loop import LaneLoop
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

    class Desk:
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
    LaneLoop(base, Desk() if rank == 0 else None, Ranks.of_process_group(), lane, loaded).run()
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
