"""Translates an error of Ray Train's into the death of a lane's workers. Ray is imported only once there is one."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from raytune_ft.execution.failures import failure
from raytune_ft.execution.lanes.entries import Cause, Death
from raytune_ft.training.outcome import OutcomeKind

NODE_GONE = "its node has died"
"""What Ray's message says where an actor died with its node; ray 2.60.0 says it in no field."""
NOT_THERE = frozenset(
    {
        "ray.train.v2._internal.exceptions:WorkerGroupStartupFailedError",
        "ray.train.v2._internal.exceptions:WorkerGroupStartupTimeoutError",
        "ray.train.v2._internal.exceptions:WorkerHealthCheckTimeoutError",
    }
)
"""Errors for workers that could not be started or do not answer; by name, so that one that Ray drops does no harm."""


def death_of(error: Exception) -> Death:
    """Returns why the lane's workers ended.

    Args:
        error: What Ray Train raised, or the error that kept it from running.
    """
    train: Any = import_module("ray.train")  # Ray's type hints name Train v1's module
    outcome = failure(error)
    reason = outcome.reason
    if not isinstance(error, train.TrainingFailedError):
        reason = f"Ray Train ended: {str(error) or type(error).__name__}".splitlines()[0]
    memory = outcome.kind is OutcomeKind.out_of_memory  # before a lane is ready: the base model alone takes too much
    return Death(reason, outcome.kind, Cause.raised if memory else _cause(error))


def _cause(error: Exception) -> Cause:
    train: Any = import_module("ray.train")
    match error:
        case train.PreemptionError():
            return Cause.preempted
        case train.WorkerGroupError():
            of_workers = {_of_one(each) for each in error.worker_failures.values()}
            # Where one worker dies, the others fail too, as they no longer hear from it.
            return next((cause for cause in Cause if cause in of_workers), Cause.lost)
        case train.ControllerError():
            return _of_one(error.controller_failure)
    return _of_one(error)


def _of_one(error: Exception) -> Cause:
    """Returns the cause of one worker's error, or of one that kept workers from being started."""
    from ray.exceptions import ActorDiedError, RayActorError, RayError, RayTaskError

    error = getattr(error, "health_check_failure", error)
    kinds = {f"{kind.__module__}:{kind.__name__}" for kind in type(error).__mro__}
    if isinstance(error, RayActorError) and error.preempted:
        return Cause.preempted
    if isinstance(error, ActorDiedError):
        return Cause.lost if NODE_GONE in str(error) else Cause.died
    if kinds & NOT_THERE:
        return Cause.lost
    return Cause.lost if isinstance(error, RayError) and not isinstance(error, RayTaskError) else Cause.raised
