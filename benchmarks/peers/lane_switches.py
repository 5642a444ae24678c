"""The lane's step with each of its switches turned alone, all in one process, turn by turn on the same batches.

Arguments: the job, a JSON file; where to write each variant's seconds per step, one a round, and what a step of it
keeps in memory for its backward pass.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lane_driver import LaneDriver, take_threads

from raytune_ft.config.training import Lane, LaneStep
from raytune_ft.training.lane.trial import RunningTrial

ALL_ON = "all_on"
VARIANTS: dict[str, tuple[Lane, dict[str, Any]]] = {
    ALL_ON: (Lane(), {}),
    "loss_positions_only": (Lane(step=LaneStep(loss_positions_only=False)), {}),
    "padding_free": (Lane(step=LaneStep(padding_free=False)), {}),
    "attention": (Lane(), {"train.attn_implementation": "sdpa"}),
    "fused": (Lane(step=LaneStep(fused=False)), {}),
    "share_base": (Lane(share_base=False), {}),
    "other_dtype": (Lane(), {"train.dtype": "float32"}),
}


def main(job: dict[str, Any], result: Path) -> None:
    take_threads(job["threads"])
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS if name in job["variants"]}
    sides: dict[str, tuple[LaneDriver, RunningTrial]] = {}
    warm_up: dict[str, float] = {}
    kept: dict[str, float] = {}
    for name in seconds:
        lane, train = VARIANTS[name]
        driver = LaneDriver(job, lane, train=train)
        sides[name] = driver, driver.trial(name, 0, {})
        warm_up[name] = _timed(*sides[name], job["warm_up_steps"])
        kept[name] = _kept_mib(*sides[name])
    names = list(seconds)
    for number in range(job["rounds"]):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            seconds[name].append(_timed(*sides[name], job["steps"]) / job["steps"])
        print(number, {name: round(values[-1], 3) for name, values in seconds.items()}, flush=True)
    result.write_text(json.dumps({"seconds": seconds, "warm_up_seconds": warm_up, "kept_mib": kept}))


def _timed(driver: LaneDriver, trial: RunningTrial, steps: int) -> float:
    started = time.perf_counter()
    for _ in range(steps):
        driver.step([trial])
    return time.perf_counter() - started


def _kept_mib(driver: LaneDriver, trial: RunningTrial) -> float:
    """What one step saves for its backward pass, in MiB; the base's weights are no part of it."""
    base = {weight.untyped_storage().data_ptr() for weight in driver.base_weights()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in base:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        driver.step([trial])
    return sum(kept.values()) / 2**20


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve())
