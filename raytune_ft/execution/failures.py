"""What an error of Ray's means for the trial whose workers met it."""

from __future__ import annotations

import re

from raytune_ft.training.outcome import Outcome, OutcomeKind

OUT_OF_MAIN_MEMORY = Outcome(
    OutcomeKind.out_of_memory,
    "the node ran out of memory and Ray ended a worker; lower train.per_device_train_batch_size or data.max_length",
)
"""Ray's memory monitor ended a worker: out of memory is how the trial ended, not a reason to try it again."""


def failed(reason: str) -> Outcome:
    """The outcome of a trial that nothing is known of but that it failed."""
    return Outcome(OutcomeKind.failed, reason)


def failure(error: BaseException) -> Outcome:
    """What Ray Train's nested error means for the trial."""
    if re.search(r"torch\.(cuda\.)?OutOfMemoryError", str(error)):  # the device's; raised outside of a step
        return Outcome(OutcomeKind.out_of_memory, failure_reason(error))
    if "OutOfMemoryError" in str(error):  # Ray's memory monitor ended a worker
        return OUT_OF_MAIN_MEMORY
    return failed(failure_reason(error))


def failure_reason(error: BaseException) -> str:
    """The innermost cause's last line that says something, of Ray Train's nested error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Error" in line and "TrainingFailedError" not in line]
    return (telling or lines or [type(error).__name__])[-1][:300]
