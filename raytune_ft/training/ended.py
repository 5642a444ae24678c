"""What goes from disk when a trial has ended: optimizers, and the weights that nobody asks for any more."""

from __future__ import annotations

import contextlib
import re
import shutil
from pathlib import Path

from raytune_ft.errors import IntegrityError
from raytune_ft.paths import TrialDirectory, remove_directory
from raytune_ft.training.lane.checkpoint import drop_optimizer

_KEPT_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state*.pth", "global_step*")  # Trainer's names
_STEP = re.compile(r"step-(\d+)")  # also in the hidden name of one that is written, or about to go


def keep_weights(trial: TrialDirectory, checkpoint: str | None, last: int | None = None) -> None:
    """Leaves just the weights of one checkpoint of a trial that no one goes on from; None leaves none.

    A second call, as after a crash in the middle of the first, does what is left to do.

    Args:
        trial: It has ended, and no other trial will copy it.
        checkpoint: Name of a directory in its `checkpoints/`.
        last: The step after which all stay, as workers may be about to report them; None where nobody works any more.
    """
    for directory in sorted(trial.checkpoints.glob("*step-*")):
        step = _STEP.search(directory.name)
        to_come = last is not None and (step is None or int(step[1]) > last)
        if directory.name != checkpoint and not to_come and directory.is_dir():
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
