"""What an error of Ray Train's says about the end of a lane's workers. Ray is imported only where one is at hand."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from raytune_ft.execution.failures import failure
from raytune_ft.execution.lanes.entries import Cause, Death
from raytune_ft.training.outcome import OutcomeKind

NODE_GONE = "its node has died"
"""Ray's words where an actor went with its node; read against ray 2.60.0, which has them in no field."""
NOT_THERE = frozenset(
    {
        "ray.train.v2._internal.exceptions:WorkerGroupStartupFailedError",
        "ray.train.v2._internal.exceptions:WorkerGroupStartupTimeoutError",
        "ray.train.v2._internal.exceptions:WorkerHealthCheckTimeoutError",
    }
)
"""Of workers that could not be had or were not heard; by name, so that one that is gone is only one the less."""


def death_of(error: Exception) -> Death:
    """Why the lane's workers are no more.

    Args:
        error: What Ray Train raised, or what kept it from its work.
    """
    train: Any = import_module("ray.train")  # Ray's types say version 1 of it
    outcome = failure(error)
    reason = outcome.reason
    if not isinstance(error, train.TrainingFailedError):
        reason = f"Ray Train ended: {str(error) or type(error).__name__}".splitlines()[0]
    memory = outcome.kind is OutcomeKind.out_of_memory  # before a lane is ready: the base alone takes too much
    return Death(reason, outcome.kind, Cause.raised if memory else _cause(error))


def _cause(error: Exception) -> Cause:
    train: Any = import_module("ray.train")
    match error:
        case train.PreemptionError():
            return Cause.preempted
        case train.WorkerGroupError():
            of_workers = {_of_one(each) for each in error.worker_failures.values()}
            # Where one worker is gone, the others fail as they do not hear from it any more.
            return next((cause for cause in Cause if cause in of_workers), Cause.lost)
        case train.ControllerError():
            return _of_one(error.controller_failure)
    return _of_one(error)


def _of_one(error: Exception) -> Cause:
    """Of one worker's error, or of one that kept workers from being started."""
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
