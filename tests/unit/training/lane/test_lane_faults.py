"""What a lane survives: full disks, killed writers, damaged files, divergence and too little memory."""

from __future__ import annotations

import errno
import math
import os
from typing import Any

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.methods.weights.peft_files import ADAPTER_WEIGHTS
from raytune_ft.training.lane import checkpoint as checkpoints
from raytune_ft.training.lane import loop
from raytune_ft.training.lane.checkpoint import MANIFEST, OPTIMIZER, check_whole, last_whole
from raytune_ft.training.lane.evaluate import evaluate
from raytune_ft.training.lane.step import Stepper


def test_a_full_disk_ends_the_trial_with_path_and_bytes_and_the_last_checkpoint_loads(
    lane_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 7."""
    world = lane_world()
    real = os.fsync

    def full_later(handle: int) -> None:
        if list(world.run.trial("0000").checkpoints.glob(".step-000004*")):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(checkpoints.os, "fsync", full_later)
    desk = world.lane(world.start("0000"))
    monkeypatch.undo()
    outcome = desk.outcomes["0000"]
    assert outcome.kind == "failed"
    assert "step-000004: no room for a checkpoint of " in outcome.reason and " bytes; free some" in outcome.reason
    left = last_whole(world.run.trial("0000").checkpoints)
    assert left is not None and left.step == 2
    assert [path.name for path in world.run.trial("0000").checkpoints.iterdir()] == ["step-000002"]
    assert world.lane(world.start("0001")).outcomes["0001"].kind == "completed"  # the lane survived


def test_a_disk_without_room_is_found_before_anything_is_written(lane_world, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 7."""
    world = lane_world()
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda path: usage)
    assert "no room" in world.lane(world.start("0000")).outcomes["0000"].reason
    assert not list(world.run.trial("0000").checkpoints.iterdir())


@pytest.mark.parametrize("damage", ["no manifest", "flipped byte", "truncated", "missing file"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(lane_world, damage: str) -> None:
    """Faults 8 and 9."""
    world = lane_world(train={"max_steps": 6, "eval_steps": 2})
    world.lane(world.start("0000"))
    world.lane(world.start("0001"), drops={"0001": 4})
    trial = world.run.trial("0001")
    assert {path.name for path in trial.checkpoints.iterdir()} == {"step-000002", "step-000004"}
    last = trial.checkpoints / "step-000004"
    if damage == "no manifest":
        (last / MANIFEST).unlink()
    elif damage == "flipped byte":
        content = bytearray((last / ADAPTER_WEIGHTS).read_bytes())
        content[-1] ^= 1
        (last / ADAPTER_WEIGHTS).write_bytes(content)
    elif damage == "truncated":
        os.truncate(last / OPTIMIZER, 1000)
    else:
        (last / ADAPTER_WEIGHTS).unlink()
    with pytest.raises(IntegrityError, match=r"step-000004.*use the checkpoint before"):
        check_whole(last)
    world.lane(world.start("0001"))
    assert world.losses("0001") == world.losses("0000")


def test_a_checkpoint_without_its_line_in_the_curve_gets_it_back(lane_world) -> None:
    """Fault 8."""
    world = lane_world()
    world.lane(world.start("0000"))
    world.lane(world.start("0001"), drops={"0001": 4})
    metrics = world.run.trial("0001").metrics
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])  # killed before the second line
    world.lane(world.start("0001"))
    assert world.losses("0001") == world.losses("0000")


def test_a_diverged_trial_ends_within_one_report_and_the_next_one_is_unharmed(lane_world) -> None:
    """Fault 10 on lanes: an explosion."""
    world = lane_world()
    desk = world.lane(
        world.start("0000"),
        world.start("0001", train__learning_rate=10.0, train__divergence_factor=1.1),
        world.start("0002"),
    )
    assert desk.outcomes["0001"].kind == "diverged"
    assert "lower train.learning_rate" in desk.outcomes["0001"].reason
    assert len(world.losses("0001")) == 1 and "0001" not in desk.reports
    assert world.losses("0000") == world.losses("0002")


def test_a_trial_that_finds_no_memory_ends_alone(lane_world, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 11 on lanes."""
    world = lane_world()
    real = Stepper.gradients

    def small_machine(self: Stepper, shares: Any) -> list[float]:
        if sum(len(share.rows) for share in shares) > 20:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return real(self, shares)

    monkeypatch.setattr(Stepper, "gradients", small_machine)
    starts = [
        world.start("0000"),
        world.start("0001", train__per_device_train_batch_size=32),
        world.start("0002", seed=1),
    ]
    desk = world.lane(*starts, packed=3)
    assert desk.outcomes["0001"].kind == "out_of_memory"
    assert "lower train.per_device_train_batch_size" in desk.outcomes["0001"].reason
    assert desk.outcomes["0000"].kind == desk.outcomes["0002"].kind == "completed"
    monkeypatch.undo()
    world.lane(world.start("0003"))
    assert [row[2] for row in world.losses("0000")] == pytest.approx([row[2] for row in world.losses("0003")], rel=1e-4)


def test_targets_that_the_base_does_not_have_fail_with_those_it_has(lane_world) -> None:
    world = lane_world()
    desk = world.lane(world.start("0000", method__target_modules=["c_attn"]), world.start("0001"))
    assert desk.outcomes["0000"].kind == "failed"
    assert "it has down_proj, gate_proj, k_proj" in desk.outcomes["0000"].reason
    assert desk.outcomes["0001"].kind == "completed"


def test_a_disk_that_is_full_from_the_start_ends_the_trial_and_not_the_lane(
    lane_world, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault 7."""
    world = lane_world()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints.os, "fsync", full)
    assert world.lane(world.start("0000")).outcomes["0000"].kind == "failed"


def test_an_adapter_that_finds_no_memory_is_out_of_memory(lane_world, monkeypatch: pytest.MonkeyPatch) -> None:
    world = lane_world()

    def no_memory(self: Any, experiment: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(type(world.base), "adapter", no_memory)
    assert world.lane(world.start("0000")).outcomes["0000"].kind == "out_of_memory"
    monkeypatch.undo()
    assert world.lane(world.start("0001")).outcomes["0001"].kind == "completed"


@pytest.mark.parametrize("what", ["a report", "the end"])
def test_a_lane_that_was_cut_off_writes_nothing_for_trials_that_may_be_anothers(
    lane_world, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    world = lane_world()
    start = world.start("0000")
    desk = world.desk(start)

    def cut_off(stepper: Stepper, trial: Any, ranks: Any) -> float:
        desk.cut_off = trial.step == 4
        return math.nan if what == "the end" and desk.cut_off else evaluate(stepper, trial, ranks)

    monkeypatch.setattr(loop, "evaluate", cut_off)
    world.work(desk)
    assert [step for step, *_ in world.losses("0000")] == [2]
    directory = world.run.trial("0000")
    assert [path.name for path in directory.checkpoints.iterdir()] == ["step-000002"]
    assert not directory.outcome.exists() and not desk.outcomes
    monkeypatch.undo()
    world.lane(start)  # another lane goes on with it
    assert [step for step, *_ in world.losses("0000")] == [2, 4, 6]
