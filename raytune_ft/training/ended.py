"""Removes files of ended trials: optimizer states, and weights that are no longer needed."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import TrialDirectory, remove_directory
from raytune_ft.training.lane.checkpoint import drop_optimizer

_KEPT_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "global_step*")  # Trainer's names
_STEP = re.compile(r"step-(\d+)")  # also in the hidden name of one that is being written or removed


def keep_weights(trial: TrialDirectory, checkpoint: str | None, last: int | None = None) -> None:
    """Removes all checkpoints of an ended trial except one, of which it keeps only the weights.

    It can be called again after a crash, and then does the rest.

    Args:
        trial: The directory of a trial that has ended and that no other trial will copy.
        checkpoint: Name of the checkpoint directory to keep; None keeps none.
        last: Checkpoints after this step are kept, because workers may be about to report them; None if no worker is
            left.
    """
    for directory in sorted(trial.checkpoints.glob("*step-*")):
        step = _STEP.search(directory.name)
        to_come = last is not None and (step is None or int(step[1]) > last)
        if directory.name != checkpoint and not to_come and directory.is_dir():
            remove_directory(directory)
    if checkpoint is not None:
        _drop_optimizer(trial.checkpoints / checkpoint)


def drop_optimizers(trial: TrialDirectory) -> None:
    """Removes the optimizer states of all checkpoints of a trial, and keeps the weights."""
    for directory in sorted(trial.checkpoints.glob("step-*")):
        _drop_optimizer(directory)


def _drop_optimizer(checkpoint: Path) -> None:
    with contextlib.suppress(OSError, IntegrityError):  # a file that can't be removed does no harm
        drop_optimizer(checkpoint)
        for pattern in _KEPT_FOR_RESUMING:
            for path in checkpoint.glob(pattern):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
