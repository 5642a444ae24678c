"""The whole time of a sweep of short trials: both runners, Ray's documented pattern, and one warm process."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from measures.inputs import EVALUATION_ROWS, PEERS, STEPS, write_experiment, write_job
from measures.options import Measure, Options, Row
from measures.processes import SideFailed, python, run_side
from measures.rounds import code, interleave, medians, ratio, spread
from raytune_ft.errors import InputError
from raytune_ft.paths import read_json

SIDES = ("lane", "lane_packed", "isolated", "documented", "warm", "warm_fastest")
GOALS = {"isolated": 6.0, "documented": 6.0, "warm": 2.0, "warm_fastest": None}
LANES = {"lane": "lane", "lane_packed": "lane, all trials at once in one, packed"}
SHOWN = {
    "isolated": "the isolated runner",
    "documented": "Ray's documented pattern, Tune + TorchTrainer + TRL",
    "warm": "one warm process, Optuna + TRL, model kept loaded",
    "warm_fastest": "the same, TRL at its fastest: a base in the fast type, eager attention",
}
_TIMEOUT_S_PER_TRIAL, _TIMEOUT_S_BESIDE = 150.0, 180.0


def measure(options: Options) -> dict[str, Any]:
    """Seconds of each side from the start of its process to the end of it, in interleaved rounds."""
    rounds, trials, earlier = options.rounds_of(SIDES), options.trials, options.earlier or {}
    if earlier and earlier["trials"] != trials:
        raise InputError("--trials", f"{trials}, and earlier rounds had {earlier['trials']}", "give these, or no --add")
    measured = code()  # now: in the hours that this takes, the checkout may move on
    losses: dict[str, list[float]] = {}
    with options.scratch("sweep") as scratch:
        numbers = count()

        def timed(name: str, side: Callable[[Path, int], tuple[float, list[float]]]) -> float:
            seconds, losses[name] = side(scratch / f"{next(numbers):03d}-{name}", trials)
            return round(seconds, 2)

        sides: dict[str, Callable[[Path, int], tuple[float, list[float]]]] = {
            "lane": partial(ours, runner={"type": "lane"}),
            "lane_packed": partial(ours, runner={"type": "lane", "lanes": 1}, search={"max_concurrent": trials}),
            "isolated": partial(ours, runner={"type": "isolated"}),
            "documented": partial(_peer, script="documented.py"),
            "warm": partial(_peer, script="warm_process.py", fastest=False),
            "warm_fastest": partial(_peer, script="warm_process.py", fastest=True),
        }
        runs = {name: partial(timed, name, side) for name, side in sides.items()}
        seconds = interleave(runs, rounds, earlier.get("seconds"))
    median = medians(seconds, 2)
    isolated_start = isolated_start_s(median, trials)
    return {
        "rounds": {name: len(values) for name, values in seconds.items()},
        "code": measured,
        "trials": trials,
        "seconds": seconds,
        "median_seconds": median,
        "spread_seconds": spread(seconds, 2),
        "times_as_fast": {
            lane: {name: value for name in GOALS if (value := ratio(median, name, lane)) is not None} for lane in LANES
        },
        **({} if isolated_start is None else {"seconds_per_isolated_start": isolated_start}),
        "best_eval_loss": {
            **earlier.get("best_eval_loss", {}),
            **{name: round(min(values), 4) for name, values in losses.items()},
        },
    }


def isolated_start_s(median: dict[str, float], trials: int) -> float | None:
    """Seconds that each trial with workers of its own takes longer; a lane starts workers once, for the first."""
    if not {"isolated", "lane"} <= median.keys():
        return None
    return round((median["isolated"] - median["lane"]) / (trials - 1), 1)


def ours(directory: Path, trials: int, runner: dict[str, Any], **changes: dict[str, Any]) -> tuple[float, list[float]]:
    """Seconds of `raytune-ft sweep` in `directory`, and the losses of its trials; `changes` as `write_experiment`'s."""
    experiment = write_experiment(directory, trials, runner, **changes)
    timeout_s = _TIMEOUT_S_BESIDE + trials * _TIMEOUT_S_PER_TRIAL
    seconds = run_side([sys.executable, "-m", "raytune_ft", "sweep", str(experiment)], directory, timeout_s)
    rows = read_json(directory / "runs" / "lanes" / "leaderboard.json")["rows"]
    return seconds, [row["value"] for row in rows]


def _peer(directory: Path, trials: int, script: str, **more: Any) -> tuple[float, list[float]]:
    result = directory / "result.json"
    job = write_job(directory, trials, storage=str(directory / "storage"), **more)
    timeout_s = _TIMEOUT_S_BESIDE + trials * _TIMEOUT_S_PER_TRIAL
    seconds = run_side(python(PEERS / script, job, result), directory, timeout_s)
    losses: list[float] = read_json(result)
    if len(losses) != trials:
        raise SideFailed(f"{script} ended {len(losses)} of {trials} trials")
    return seconds, losses


def rows(result: dict[str, Any]) -> list[Row]:
    """One line for each peer and each way to use a lane."""
    what = f"sweep of {result['trials']} trials x {STEPS} steps and {EVALUATION_ROWS} sentences of evaluation"
    seconds = result["median_seconds"]
    lines = []
    for lane, ratios in result["times_as_fast"].items():
        for name, times in ratios.items():
            goal = GOALS[name]
            lines.append(
                Row(
                    f"{what}: {SHOWN[name]} / {LANES[lane]}",
                    f"at least {goal:g}" if goal else "",
                    f"{times:.1f} ({seconds[name]:.0f} s / {seconds[lane]:.0f} s)",
                    times >= goal if goal else None,
                )
            )
    return lines or [Row(f"{what}: {name}", "", f"{value:.0f} s") for name, value in seconds.items()]


SWEEP = Measure(measure, rows, SIDES, adds=True)
