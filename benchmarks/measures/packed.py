"""Trials per second when a lane trains several in one pass, against the same trials one after the other."""

from __future__ import annotations

import statistics
from typing import Any

from measures.inputs import BATCH, PEERS, STEPS, prepare_rows, write_job
from measures.options import Measure, Options, Row
from measures.processes import python, run_side
from raytune_ft.paths import read_json

SIDES = ("packed",)
PACKS, BATCHES = (2, 4, 8), (8, 2)
STEPS_PER_ROUND = 2
_EPOCH_STEPS = 30
_TIMEOUT_S = 1500.0


def measure(options: Options) -> dict[str, Any]:
    """In one process; each round times both sides on the same batches."""
    rounds = options.rounds_of(SIDES)["packed"]
    with options.scratch("packed") as scratch:
        directory = scratch / "packs"
        job = write_job(
            directory,
            max(PACKS),
            **prepare_rows(scratch / "rows", _EPOCH_STEPS * BATCH),
            packs=PACKS,
            batches=BATCHES,
            rounds=rounds,
            **{"steps": STEPS_PER_ROUND},
        )
        result = directory / "result.json"
        run_side(python(PEERS / "lane_packs.py", job, result), directory, _TIMEOUT_S)
        found: dict[str, dict[str, list[float]]] = read_json(result)
    packs = []
    for key, seconds in found.items():
        batch, size = map(int, key.split("x"))
        times = [alone / packed for alone, packed in zip(seconds["alone"], seconds["packed"], strict=True)]
        rates = {name: size / (STEPS * statistics.median(values)) for name, values in seconds.items()}
        packs.append(
            {
                "batch": batch,
                "trials": size,
                "trials_per_second": {name: round(rate, 4) for name, rate in rates.items()},
                "packed_is_times_as_fast": round(statistics.median(times), 3),
            }
        )
    return {"rounds": rounds, "steps_per_round": STEPS_PER_ROUND, "steps_per_trial": STEPS, "packs": packs}


def rows(result: dict[str, Any]) -> list[Row]:
    """One line for each batch size and pack."""
    lines = []
    for pack in result["packs"]:
        times, rates = pack["packed_is_times_as_fast"], pack["trials_per_second"]
        lines.append(
            Row(
                f"trials per second, {pack['trials']} packed / one after the other, batch {pack['batch']}",
                "never slower",
                f"{times:.2f} ({rates['packed']:.3f} / {rates['alone']:.3f})",
                times >= 1.0,
            )
        )
    return lines


PACKED = Measure(measure, rows, SIDES)
