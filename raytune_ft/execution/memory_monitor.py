"""A trial whose worker Ray's memory monitor ended: out of memory is how it ended, not a reason to try again.

Imported where a worker group is started; it needs Ray.
"""

from __future__ import annotations

from typing import Any

from ray.exceptions import OutOfMemoryError
from ray.train import UserCallback

from raytune_ft.execution.failures import OUT_OF_MAIN_MEMORY
from raytune_ft.paths import TrialDirectory
from raytune_ft.training.outcome import Outcome


class OutOfMemoryEnds(UserCallback):
    """Writes the outcome as soon as Ray Train hears of it: the group that it starts again finds it and returns."""

    def __init__(self, directory: TrialDirectory) -> None:
        self._directory = directory

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Called in Train's controller, before it decides whether to start the workers again."""
        # A worker that died is found by its health check, which carries the cause.
        causes = [getattr(each, "health_check_failure", each) for each in worker_exceptions.values()]
        if any(isinstance(each, OutOfMemoryError) for each in causes) and Outcome.read(self._directory) is None:
            OUT_OF_MAIN_MEMORY.write(self._directory)
