"""TensorBoard's event files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.logger import TBXLoggerCallback


class TensorBoard(TBXLoggerCallback):
    """Writes into the run directory at once; Ray's stages its files in /tmp, where a killed driver leaves them.

    Args:
        directory: Gets a folder for each trial.
    """

    def __init__(self, directory: Path) -> None:
        parent: Any = super()  # untyped
        parent.__init__()
        self._directory = directory

    def log_trial_start(self, trial: Any) -> None:
        if trial in self._trial_writer:
            self._trial_writer[trial].close()
        self._trial_writer[trial] = self._summary_writer_cls(str(self._directory / str(trial)), flush_secs=30)
        self._trial_result[trial] = {}
