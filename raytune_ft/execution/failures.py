"""Translates an error of Ray's into the outcome of the trial whose workers met it."""

from __future__ import annotations

import re

from raytune_ft.training.outcome import Outcome, OutcomeKind

OUT_OF_MAIN_MEMORY = Outcome(
    OutcomeKind.out_of_memory,
    "the node ran out of memory and Ray ended a worker; lower train.per_device_train_batch_size or data.max_length",
)
"""The outcome if Ray's memory monitor ended a worker: out of memory is how the trial ended, not a reason to retry."""


def failed(reason: str) -> Outcome:
    """Returns the outcome of a failed trial of which only the reason is known, neither a step nor a value."""
    return Outcome(OutcomeKind.failed, reason)


def failure(error: BaseException) -> Outcome:
    """Returns the outcome of a trial that ended with this nested error of Ray Train's."""
    if re.search(r"torch\.(cuda\.)?OutOfMemoryError", str(error)):  # the device's memory ran out, outside of a step
        return Outcome(OutcomeKind.out_of_memory, failure_reason(error))
    if "OutOfMemoryError" in str(error):  # Ray's memory monitor ended a worker
        return OUT_OF_MAIN_MEMORY
    return failed(failure_reason(error))


def failure_reason(error: BaseException) -> str:
    """Returns the last line that names a cause in Ray Train's nested error, at most 300 characters of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line and "TrainingFailedError" not in line]
    return (telling or lines or [type(error).__name__])[-1][:300]
