"""How many trials a lane trains together under `packed: auto`: as many as are measured to be faster, and fit."""

from __future__ import annotations

import time

from raytune_ft.config.experiment import Experiment
from raytune_ft.training.guards import out_of_memory_reason
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Share, Stepper
from raytune_ft.training.lane.trial import Splits

GAIN = 1.05  # tokens per second, over the smaller pack
MOST = 64


def pack_size(stepper: Stepper, experiment: Experiment, splits: Splits, ranks: Ranks) -> int:
    """Doubles the pack while that trains at least 5 % more tokens a second; the first rank's answer holds for all.

    Times passes of the experiment's own batch size over rows of the training split, without moving any weight.
    """
    wanted = experiment.search.max_concurrent if experiment.search else 1
    size = 1
    if wanted > 1 and ranks.rank == 0:
        best = _rate(stepper, experiment, splits, 1)
        while best is not None and size * 2 <= min(wanted, MOST):
            rate = _rate(stepper, experiment, splits, size * 2)
            if rate is None or rate < GAIN * best:
                break
            size, best = size * 2, rate
    shared: int = ranks.share(size)
    return shared


def _rate(stepper: Stepper, experiment: Experiment, splits: Splits, size: int) -> float | None:
    """Tokens per second of a pass of `size` trials, or None where it finds no memory."""
    batch = experiment.train.per_device_train_batch_size
    adapters = [stepper.base.adapter(experiment) for _ in range(size)]
    seconds, tokens = [], 0
    try:
        for turn in range(3):  # the first makes kernels, and is not counted
            rows = [[splits.train[(i * batch + j) % len(splits.train)] for j in range(batch)] for i in range(size)]
            began = time.perf_counter()
            stepper.gradients([Share(adapter, part, 1.0) for adapter, part in zip(adapters, rows, strict=True)])
            if turn:
                seconds.append(time.perf_counter() - began)
            tokens = sum(len(ids) for part in rows for ids, _ in part)
    except (RuntimeError, MemoryError) as error:
        if out_of_memory_reason(error) is None:
            raise
        return None
    return tokens / min(seconds)
