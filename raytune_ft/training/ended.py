"""What goes from disk when a trial has ended: optimizers, and the weights that nobody asks for any more."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import TrialDirectory, remove_directory
from raytune_ft.training.lane.checkpoint import drop_optimizer

_KEPT_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "global_step*")  # Trainer's names


def keep_weights(trial: TrialDirectory, checkpoint: str | None) -> None:
    """Leaves just the weights of one checkpoint of a trial that no one goes on from; None leaves none.

    A second call, as after a crash in the middle of the first, does what is left to do.

    Args:
        trial: It has ended, and no other trial will copy it.
        checkpoint: Name of a directory in its `checkpoints/`.
    """
    for directory in sorted(trial.checkpoints.glob("*step-*")):
        if directory.name != checkpoint and directory.is_dir():
            remove_directory(directory)
    if checkpoint is not None:
        _drop_optimizer(trial.checkpoints / checkpoint)


def drop_optimizers(trial: TrialDirectory) -> None:
    """Leaves the weights of all of its checkpoints."""
    for directory in sorted(trial.checkpoints.glob("step-*")):
        _drop_optimizer(directory)


def _drop_optimizer(checkpoint: Path) -> None:
    with contextlib.suppress(OSError, IntegrityError):  # nothing is lost where it stays
        drop_optimizer(checkpoint)
        for pattern in _KEPT_FOR_RESUMING:
            for path in checkpoint.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
