"""What Ray Train's errors say about the end of a lane's workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
)
from ray.train.v2._internal.exceptions import (
    InsufficientClusterResourcesError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, PreemptionError, WorkerGroupError

from raytune_ft.execution.lanes.entries import Cause
from raytune_ft.execution.lanes.recovery.deaths import death_of
from raytune_ft.training.outcome import OutcomeKind


def workers(*errors: Exception) -> WorkerGroupError:
    return WorkerGroupError("\n".join(str(each) for each in errors), dict(enumerate(errors)))


def died(words: str) -> ActorDiedError:
    error = ActorDiedError()
    error.error_msg = f"The actor died unexpectedly before finishing this task.\n{words}"
    return error


def unhealthy(error: Exception) -> WorkerHealthCheckFailedError:
    return WorkerHealthCheckFailedError("A worker health check failed.", failure=error)


PREEMPTED = RayActorError("id", "The actor died", preempted=True)
NODE = died("The actor died because its node has died. Node Id: 12ab")
KILLED = died("Worker unexpectedly exits with a connection error code 2. End of file.")
PREEMPTION: Any = SimpleNamespace(preempted_ranks=[0])


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (PreemptionError(PREEMPTION), Cause.preempted),
        (workers(unhealthy(PREEMPTED), RuntimeError("Connection closed by peer")), Cause.preempted),
        (workers(unhealthy(NODE)), Cause.lost),
        (workers(RuntimeError("Connection closed by peer"), unhealthy(NODE)), Cause.lost),
        (workers(unhealthy(ActorUnavailableError("unavailable", b"0" * 16))), Cause.lost),
        (workers(WorkerHealthCheckTimeoutError("it hangs")), Cause.lost),
        (workers(unhealthy(KILLED)), Cause.died),
        (workers(unhealthy(KILLED), RuntimeError("Connection closed by peer")), Cause.died),
        (workers(ValueError("the base has no layers")), Cause.raised),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), Cause.lost),
        (ControllerError(WorkerGroupStartupFailedError("a worker died")), Cause.lost),
        (ControllerError(GetTimeoutError("no answer")), Cause.lost),
        (ControllerError(InsufficientClusterResourcesError("never so many")), Cause.raised),
        (ControllerError(RayTaskError("f", "ImportError: no", ImportError("no"))), Cause.raised),
        (GetTimeoutError("no answer"), Cause.lost),
        (PermissionError("[Errno 13] Permission denied: '/runs'"), Cause.raised),
    ],
)
def test_an_outage_is_told_from_an_error_that_comes_again(error: Exception, cause: Cause) -> None:
    assert death_of(error).cause is cause


def test_the_reason_is_one_line_and_memory_is_told_from_other_ends() -> None:
    death = death_of(workers(ValueError("the base has no layers")))
    assert (death.reason, death.kind) == ("the base has no layers", OutcomeKind.failed)
    memory = death_of(workers(unhealthy(OutOfMemoryError("Task was killed: ray.exceptions.OutOfMemoryError"))))
    assert (memory.kind, memory.cause) == (OutcomeKind.out_of_memory, Cause.raised)
    assert death_of(PermissionError("no\nand more")).reason == "Ray Train ended: no"
    assert death_of(TimeoutError()).reason == "Ray Train ended: TimeoutError"
