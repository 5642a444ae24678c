"""Ends a trial whose worker was killed by Ray's memory monitor as `out_of_memory`, so that it is not retried.

The module imports Ray at its top, so it is imported only where a worker group is started.
"""

from __future__ import annotations

from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.train import UserCallback

from raytune_ft.execution.failures import OUT_OF_MAIN_MEMORY
from raytune_ft.paths import TrialDirectory
from raytune_ft.training.outcome import Outcome


class OutOfMemoryEnds(UserCallback):
    """Writes the outcome as soon as Ray Train sees the error: a restarted worker group finds it and returns at once."""

    def __init__(self, directory: TrialDirectory) -> None:
        self._directory = directory

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Writes the outcome; Train's controller calls this before it decides whether to restart the workers."""
        # Ray Train finds a dead worker by a failed health check, whose error carries the cause.
        causes = [getattr(each, "health_check_failure", each) for each in worker_exceptions.values()]
        if any(isinstance(each, OutOfMemoryError) for each in causes) and Outcome.read(self._directory) is None:
            OUT_OF_MAIN_MEMORY.write(self._directory)
