"""Of a trial that ended, what only a resumed one would read goes; of one that may go on, nothing does."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.paths import TrialDirectory
from raytune_ft.training.ended import drop_optimizer
from raytune_ft.training.outcome import Outcome, OutcomeKind

KEPT = {"adapter_model.safetensors", "model.safetensors", "optimizer.safetensors", "trainer.json"}


@pytest.mark.parametrize("kind", [None, *OutcomeKind])
def test_the_optimizer_goes_with_the_end(tmp_path: Path, kind: OutcomeKind | None) -> None:
    trial = TrialDirectory(tmp_path / "0000")
    step = trial.checkpoints / "step-000010"
    (step / "global_step10").mkdir(parents=True)
    gone = {"optimizer.pt", "scheduler.pt", "rng_state_0.pth", "global_step10/states.pt"}
    for name in KEPT | gone:
        (step / name).write_bytes(b"x")
    if kind is not None:
        Outcome(kind, "").write(trial)
    drop_optimizer(trial)
    left = {path.relative_to(step).as_posix() for path in step.rglob("*") if path.is_file()}
    assert left == (KEPT if kind in ("completed", "pruned", "diverged") else KEPT | gone)
