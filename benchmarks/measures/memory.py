"""Proportional set size of the lanes of a node while they train: four of them against one.

A page that n processes share counts as 1/n in each (`smaps_rollup`, Linux), so the sum is what they really take.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from measures.inputs import BASE, BATCH, STEPS, write_experiment
from measures.large_base import size_mib, write_large_base
from measures.options import Measure, Options, Row
from measures.processes import SideFailed, run_side
from measures.rounds import interleave
from raytune_ft.paths import read_json

LANES = {"lanes_1": 1, "lanes_4": 4, "large_lanes_1": 1, "large_lanes_4": 4}
SIDES = tuple(LANES)
BASES = {"": "SmolLM2-135M", "large_": "1.2 billion random parameters"}
LARGE_BATCH = 2
CPUS_PER_LANE = 0.5
GOAL = 2.0
WORKER = "workers"
KINDS = {  # of the processes that a lane consists of, by the titles that Ray gives them
    WORKER: re.compile(r"^ray::_?RayTrainWorker"),
    "dispatcher": re.compile(r"^ray::Dispatcher"),
    "fork server": re.compile(r"raytune_ft\.execution\.local_ray\.forked\.server"),
}
_TIMEOUT_S = 540.0
_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)

Sample = tuple[float, dict[str, float]]
"""Time, and MiB of each kind."""


def measure(options: Options) -> dict[str, Any]:
    """Sweeps on one and on four lanes, looked at twice a second; only the time counts in which every lane trains."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in SIDES}
    numbers = count()
    with options.scratch("memory") as scratch:
        rounds = options.rounds_of(SIDES)
        large = any(rounds[name] for name in SIDES if name.startswith("large_"))
        bases = {"": BASE, "large_": write_large_base(scratch / "large-base") if large else BASE}

        def side(name: str) -> float:
            kind = "large_" if name.startswith("large_") else ""
            directory = scratch / f"{next(numbers):03d}-{name}"
            found[name].append(_while_training(directory, LANES[name], bases[kind], LARGE_BATCH if kind else BATCH))
            return round(sum(found[name][-1].values()), 1)

        interleave({name: partial(side, name) for name in SIDES}, rounds)
        sizes = {kind: size_mib(base) for kind, base in bases.items()}
    median = {
        name: {kind: round(statistics.median(each.get(kind, 0.0) for each in samples), 1) for kind in KINDS}
        for name, samples in found.items()
        if samples
    }
    result: dict[str, Any] = {"rounds": {name: len(each) for name, each in found.items() if each}, "median_mib": median}
    for kind, name in BASES.items():
        if (one := median.get(f"{kind}lanes_1")) and (four := median.get(f"{kind}lanes_4")):
            result[f"{kind}ratio"] = round(sum(four.values()) / sum(one.values()), 2)
            result[f"{kind}ratio_of_workers"] = round(four[WORKER] / one[WORKER], 2)
            result[f"{kind}base"] = f"{name}, {sizes[kind]} MiB"
    return result


def _while_training(directory: Path, lanes: int, base: Path, batch: int) -> dict[str, float]:
    runner = {"type": "lane", "packed": 1, "lanes": lanes}
    trials = max(2, lanes)
    experiment = write_experiment(
        directory,
        trials,
        runner,
        base,
        resources={"cpus_per_worker": CPUS_PER_LANE},
        search={"max_concurrent": lanes},
        train={"max_steps": 2 * STEPS, "per_device_train_batch_size": batch},
    )
    samples: list[Sample] = []
    run_side(
        [sys.executable, "-m", "raytune_ft", "sweep", str(experiment)],
        directory,
        _TIMEOUT_S,
        lambda side: samples.append((time.time(), sizes_mib(side))),
    )
    times = [read_json(path) for path in (directory / "runs" / "lanes" / "trials").glob("*/timing.json")]
    training = [sum(each["first_step"] <= at <= each["ended"] for each in times) for at, _ in samples]
    during = [sizes for (_, sizes), number in zip(samples, training, strict=True) if number == lanes]
    if not during:
        raise SideFailed(f"{directory}: there was no moment in which all {lanes} lanes trained")
    found = {kind: statistics.median(sizes[kind] for sizes in during) for kind in KINDS}
    if missing := [kind for kind, size in found.items() if not size]:
        raise SideFailed(f"{directory}: no process is titled as one of the lane's {missing}")
    return found


def sizes_mib(root: int) -> dict[str, float]:
    """Kind -> proportional set size of its processes below `root`, in MiB."""
    sizes = dict.fromkeys(KINDS, 0.0)
    for process in psutil.Process(root).children(recursive=True):
        try:
            title = " ".join(process.cmdline())
            kind = next((kind for kind, pattern in KINDS.items() if pattern.search(title)), None)
            if kind:
                sizes[kind] += _pss_mib(process.pid)
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return sizes


def _pss_mib(process: int) -> float:
    found = _PSS.search(Path(f"/proc/{process}/smaps_rollup").read_text())
    return int(found[1]) / 1024 if found else 0.0


def rows(result: dict[str, Any]) -> list[Row]:
    """For each base one line for all processes of the lanes, and one for their workers alone."""
    lines = []
    for kind in BASES:
        if f"{kind}ratio" not in result:
            continue
        one, four = result["median_mib"][f"{kind}lanes_1"], result["median_mib"][f"{kind}lanes_4"]
        everything, workers = result[f"{kind}ratio"], result[f"{kind}ratio_of_workers"]
        what = f"memory of 4 lanes on a node / of one (proportional set size), base of {result[f'{kind}base']}"
        lines += [
            Row(
                f"{what}: workers, dispatcher and fork server",
                f"at most {GOAL}",
                f"{everything:.2f} ({sum(four.values()):.0f} MiB / {sum(one.values()):.0f} MiB)",
                everything <= GOAL,
            ),
            Row(f"{what}: workers alone", "", f"{workers:.2f} ({four[WORKER]:.0f} MiB / {one[WORKER]:.0f} MiB)"),
        ]
    return lines


MEMORY = Measure(measure, rows, SIDES)
