"""Of a trial that ended, only the weights that may be asked for stay, and they stay whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import TrialDirectory
from raytune_ft.training.ended import drop_optimizers, keep_weights
from raytune_ft.training.lane.checkpoint import MANIFEST, OPTIMIZER, check_whole, last_whole, read_checkpoint

OF_TRAINER = {"optimizer.pt", "scheduler.pt", "rng_state_0.pth", "global_step10/states.pt"}


def names(directory: Path) -> set[str]:
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


def test_an_isolated_trial_loses_what_only_a_resumed_one_would_read(tmp_path: Path) -> None:
    trial = TrialDirectory(tmp_path / "0000")
    kept = {"adapter_model.safetensors", "model.safetensors", "trainer_state.json"}
    for step in ("step-000005", "step-000010"):
        (trial.checkpoints / step / "global_step10").mkdir(parents=True)
        for name in kept | OF_TRAINER:
            (trial.checkpoints / step / name).write_bytes(b"x")
    (trial.checkpoints / "snapshot.json").write_text("{}")  # Ray Train's
    drop_optimizers(trial)
    assert names(trial.checkpoints / "step-000005") == names(trial.checkpoints / "step-000010") == kept
    keep_weights(trial, "step-000010")
    assert names(trial.checkpoints) == {"snapshot.json", *(f"step-000010/{name}" for name in kept)}
    keep_weights(trial, None)
    assert names(trial.checkpoints) == {"snapshot.json"}


def test_a_lanes_checkpoint_without_its_optimizer_is_whole_and_nothing_goes_on_from_it(lane_world) -> None:
    world = lane_world()
    world.lane(world.start("0000"))
    trial = world.run.trial("0000")
    best = trial.checkpoints / "step-000006"
    for _ in range(2):
        keep_weights(trial, best.name)
        assert [path.name for path in trial.checkpoints.iterdir()] == [best.name] and OPTIMIZER not in names(best)
    check_whole(best)
    with pytest.raises(IntegrityError, match="without its optimizer since its trial ended"):
        read_checkpoint(best)
    assert last_whole(trial.checkpoints) is None


def test_a_checkpoint_killed_between_its_manifest_and_its_optimizer_loses_that_too(lane_world) -> None:
    """Fault 8."""
    world = lane_world(train={"max_steps": 2, "eval_steps": 2})
    world.lane(world.start("0000"))
    trial = world.run.trial("0000")
    best = trial.checkpoints / "step-000002"
    optimizer = (best / OPTIMIZER).read_bytes()
    keep_weights(trial, best.name)
    (best / OPTIMIZER).write_bytes(optimizer)  # the manifest is written first
    check_whole(best)
    keep_weights(trial, best.name)
    assert OPTIMIZER not in names(best)
    (best / MANIFEST).write_text("{half")
    keep_weights(trial, best.name)  # damaged before: no traceback, and the weights stay


def test_a_trial_without_checkpoints_is_no_matter(tmp_path: Path) -> None:
    keep_weights(TrialDirectory(tmp_path / "0000"), None)
    drop_optimizers(TrialDirectory(tmp_path / "0000"))
