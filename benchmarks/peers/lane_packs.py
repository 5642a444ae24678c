"""Trials in one pass against the same trials one after the other, in one process, turn by turn.

Arguments: the job, a JSON file; where to write, for each pack and batch size, the seconds per step of all its trials.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from lane_driver import LaneDriver, take_threads

from raytune_ft.config.training import Lane
from raytune_ft.training.lane.trial import RunningTrial


def main(job: dict[str, Any], result: Path) -> None:
    take_threads(job["threads"])
    driver = LaneDriver(job, Lane())
    pairs = [(batch, size) for batch in job["batches"] for size in job["packs"]]
    found = {f"{batch}x{size}": _compared(driver, job, batch, size) for batch, size in pairs}
    result.write_text(json.dumps(found))


def _compared(driver: LaneDriver, job: dict[str, Any], batch: int, size: int) -> dict[str, list[float]]:
    def trials(run: str) -> list[RunningTrial]:
        return [
            driver.trial(
                f"{run}-{batch}-{size}",
                number,
                {
                    "train.learning_rate": each["learning_rate"],
                    "method.r": each["r"],
                    "train.per_device_train_batch_size": batch,
                },
            )
            for number, each in enumerate(job["trials"][:size])
        ]

    packed, alone = trials("packed"), trials("alone")
    sides = {"packed": [packed], "alone": [[trial] for trial in alone]}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(-1, job["rounds"]):  # the first makes kernels, and is not counted
        for name in sorted(sides, reverse=bool(number % 2)):
            started = time.perf_counter()
            for _ in range(job["steps"]):
                for together in sides[name]:
                    driver.step(together)
            if number >= 0:
                seconds[name].append((time.perf_counter() - started) / job["steps"])
    print(batch, size, seconds, flush=True)
    return seconds


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve())
