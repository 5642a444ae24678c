"""What a trial that ended leaves behind and nobody reads again: its optimizer, most of a checkpoint's size."""

from __future__ import annotations

import shutil

from raytune_ft.paths import TrialDirectory
from raytune_ft.training.outcome import Outcome, OutcomeKind

_ENDED = (OutcomeKind.completed, OutcomeKind.pruned, OutcomeKind.diverged)
_KEPT_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "global_step*")  # Trainer's names


def drop_optimizer(trial: TrialDirectory) -> None:
    """Removes what only a resumed trial would read from the checkpoints of an isolated trial that ended for good."""
    outcome = Outcome.read(trial)
    if outcome is None or outcome.kind not in _ENDED:
        return
    for pattern in _KEPT_FOR_RESUMING:
        for path in trial.checkpoints.glob(f"step-*/{pattern}"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
