"""What each switch of the lane's step is worth: a step's time with it turned, over the time with the defaults, and what
the step keeps in memory for its backward pass."""

from __future__ import annotations

import statistics
from functools import partial
from itertools import count
from typing import Any

from measures.inputs import BATCH, PEERS, prepare_rows, write_job
from measures.options import Measure, Options, Row
from measures.processes import python, run_side
from measures.rounds import interleave, medians
from measures.step import run_step_side, steps_per_second
from raytune_ft.paths import read_json

SWITCHES = {
    "loss_positions_only": "step.loss_positions_only: false",
    "padding_free": "step.padding_free: false",
    "attention": "train.attn_implementation: sdpa instead of eager",
    "fused": "step.fused: false",
    "share_base": "share_base: false",
    "other_dtype": "train.dtype: float32",
}
OF_A_PROCESS: dict[str, tuple[str, dict[str, Any]]] = {
    "round_tokens": ("step.round_tokens: 1", {"step": {"round_tokens": 1}}),
}
"""A process keeps the kernels that were compiled for the shapes of its products."""
SIDES = (*OF_A_PROCESS, *SWITCHES)
USUAL = "process"
WARM_UP_STEPS, STEPS = 2, 3
_EPOCH_STEPS = 30
_TIMEOUT_S = 1500.0


def measure(options: Options) -> dict[str, Any]:
    """Those that hold for a pass in one process, turn by turn; those that hold for a process, in one of their own."""
    rounds = options.rounds_of(SIDES)
    variants = ["all_on", *(name for name in SWITCHES if rounds[name])]
    with options.scratch("switches") as scratch:
        rows = prepare_rows(scratch / "rows", _EPOCH_STEPS * BATCH)
        directory = scratch / "variants"
        job = write_job(
            directory,
            1,
            **rows,
            variants=variants,
            rounds=max(rounds[name] for name in SWITCHES),
            warm_up_steps=WARM_UP_STEPS,
            **{"steps": STEPS},
        )
        result = directory / "result.json"
        run_side(python(PEERS / "lane_switches.py", job, result), directory, _TIMEOUT_S)
        found = read_json(result)
        numbers = count()

        def alone(name: str, **turned: Any) -> float:
            directory = scratch / f"{next(numbers):03d}-{name}"
            steps = run_step_side(directory, "lane_steps.py", rows, **{"steps": _EPOCH_STEPS} | turned)
            return round(1.0 / steps_per_second(steps), 4)

        sides = {name: partial(alone, name, **turned) for name, (_, turned) in OF_A_PROCESS.items() if rounds[name]}
        most = max((rounds[name] for name in sides), default=0)
        sides[USUAL] = partial(alone, USUAL)
        processes = interleave(sides, {name: rounds.get(name, most) for name in sides})
    seconds: dict[str, list[float]] = found["seconds"]
    ratios = {name: _ratio(seconds[name], seconds["all_on"]) for name in seconds if name != "all_on"}
    ratios |= {
        name: _ratio(values, processes[USUAL][: len(values)]) for name, values in processes.items() if name != USUAL
    }
    return {
        "rounds": {name: len(values) for name, values in seconds.items() if name != "all_on"}
        | {name: rounds[name] for name in OF_A_PROCESS},
        "steps_per_round": STEPS,
        "median_seconds_per_step": medians(seconds) | medians(processes),
        "warm_up_seconds": {name: round(value, 1) for name, value in found["warm_up_seconds"].items()},
        "kept_for_backward_mib": {name: round(value, 1) for name, value in found["kept_mib"].items()},
        "step_takes_times_as_long": ratios,
    }


def _ratio(turned: list[float], usual: list[float]) -> float:
    """Median of the rounds' ratios: both sides of one are of the same minute."""
    return round(statistics.median(a / b for a, b in zip(turned, usual, strict=True)), 3)


def rows(result: dict[str, Any]) -> list[Row]:
    """One line for each switch."""
    shown = SWITCHES | {name: words for name, (words, _) in OF_A_PROCESS.items()}
    return [
        Row(f"a step with {shown[name]}, over one with the defaults", "", f"{times:.2f}{_beside(name, result)}")
        for name, times in result["step_takes_times_as_long"].items()
    ]


def _beside(name: str, result: dict[str, Any]) -> str:
    """In brackets: what the step keeps."""
    kept, said = result["kept_for_backward_mib"], []
    if name in kept:
        said.append(f"keeps {kept[name]:.0f} MiB for its backward pass, by default {kept['all_on']:.0f}")
    return f" ({'; '.join(said)})" if said else ""


SWITCHES_MEASURE = Measure(measure, rows, SIDES)
