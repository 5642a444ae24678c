"""The lane's own loop, step by step, on the rows that TRL's side trains on, in the same order.

Arguments: the job, a JSON file; where to write the seconds of each step and the losses.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from lane_driver import LaneDriver, take_threads

from raytune_ft.config.training import Lane, LaneStep


def main(job: dict[str, Any], result: Path) -> None:
    take_threads(job["threads"])
    driver = LaneDriver(job, Lane(step=LaneStep(**job.get("step", {}))))
    trial = driver.trial("run", 0, {"train.learning_rate": job["learning_rate"], "method.r": job["r"]})
    done, losses = [], []
    for _ in range(job["steps"]):
        losses += driver.step([trial])
        done.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(done)]
    result.write_text(json.dumps({"seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]).resolve())
