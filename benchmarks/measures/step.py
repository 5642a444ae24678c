"""Steps per second of the lane's loop against TRL's SFTTrainer: the same rows, the same order, the same adapter."""

from __future__ import annotations

import math
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from measures.inputs import BATCH, PEERS, TRIALS, machine_type, prepare_rows, write_job
from measures.options import Measure, Options, Row
from measures.processes import SideFailed, python, run_side
from measures.rounds import interleave, medians, ratio, spread
from raytune_ft.execution.local_ray.forked.started import allocator
from raytune_ft.paths import read_json

SIDES = ("lane_step", "trl_default", "trl_fastest")
WARM_UP_STEPS, TIMED_STEPS = 3, 12
STEPS = WARM_UP_STEPS + TIMED_STEPS
GOALS = {"bfloat16": 2.9, "float32": 2.1}
"""By the type that the machine is fast in: against the faster way to run TRL."""
SHOWN = {
    "trl_default": "a float32 base, sdpa, autocast where bfloat16 is fast",
    "trl_fastest": "a base in the machine's fast type, eager attention",
}
_TIMEOUT_S = 300.0
_SAME_LOSS = 0.01  # of the first step, whose adapter changes nothing yet; bfloat16 rounds in other places


def measure(options: Options) -> dict[str, Any]:
    """Each side in a process of its own; the first steps are not counted."""
    first_losses: dict[str, float] = {}
    with options.scratch("step") as scratch:
        rows = prepare_rows(scratch / "rows", STEPS * BATCH)
        numbers = count()

        def side(name: str, script: str, **more: Any) -> float:
            directory = scratch / f"{next(numbers):03d}-{name}"
            found = run_step_side(directory, script, rows, **more)
            first_losses[name] = round(found["losses"][0], 4)
            return round(steps_per_second(found), 4)

        sides = {
            "lane_step": partial(side, "lane_step", "lane_steps.py"),
            "trl_default": partial(side, "trl_default", "trl_steps.py", fastest=False),
            "trl_fastest": partial(side, "trl_fastest", "trl_steps.py", fastest=True),
        }
        rates = interleave(sides, options.rounds_of(SIDES))
    _check_same_rows(first_losses)
    median = medians(rates)
    return {
        "rounds": {name: len(values) for name, values in rates.items()},
        "steps": TIMED_STEPS,
        "median_steps_per_second": median,
        "spread_steps_per_second": spread(rates),
        "lane_is_times_as_fast": {
            name: value for name in SHOWN if (value := ratio(median, "lane_step", name)) is not None
        },
        "first_loss": first_losses,
        "dtype": machine_type(),
    }


def run_step_side(directory: Path, script: str, rows: dict[str, str], **more: Any) -> dict[str, Any]:
    """What the script wrote: the seconds of its steps and the losses."""
    rate, rank = TRIALS[0]
    job = write_job(directory, 1, **rows, learning_rate=rate, r=rank, **{"steps": STEPS, **more})
    result = directory / "result.json"
    # A lane's worker is a copy of a process with this memory allocator, on a Linux machine of one's own.
    theirs = [f"{name}={value}" for name, value in allocator({}).items()] if script == "lane_steps.py" else []
    run_side(["env", *theirs, *python(PEERS / script, job, result)], directory, _TIMEOUT_S)
    found: dict[str, Any] = read_json(result)
    return found


def steps_per_second(found: dict[str, Any]) -> float:
    """Of the counted steps."""
    timed = found["seconds"][WARM_UP_STEPS - 1 :]  # between two steps' ends, so one less than the steps
    return len(timed) / math.fsum(timed)


def _check_same_rows(first_losses: dict[str, float]) -> None:
    """Before the first step all sides have the same model, so another loss means other rows."""
    if max(first_losses.values()) > min(first_losses.values()) * (1.0 + _SAME_LOSS):
        raise SideFailed(f"the sides did not train the same rows: losses of the first step are {first_losses}")


def rows(result: dict[str, Any]) -> list[Row]:
    """One line for each way to run TRL."""
    rates = result["median_steps_per_second"]
    worst = min(result["lane_is_times_as_fast"].values(), default=0.0)
    return [
        Row(
            f"steps per second, lane / TRL's SFTTrainer {SHOWN[name]}",
            f"at least {GOALS[result['dtype']]}" if times == worst else "-",
            f"{times:.2f} ({rates['lane_step']:.2f} / {rates[name]:.2f})",
            times >= GOALS[result["dtype"]] if times == worst else None,
        )
        for name, times in result["lane_is_times_as_fast"].items()
    ]


STEP = Measure(measure, rows, SIDES)
