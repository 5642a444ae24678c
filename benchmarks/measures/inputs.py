"""What all sides train: the same rows of the movie sentences, the same parameters."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from measures.processes import THREADS
from raytune_ft.config.number_type import NumberType
from raytune_ft.errors import InputError
from raytune_ft.hardware.device import common_type
from raytune_ft.hardware.here import cpu_here
from raytune_ft.paths import write_json

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers"
BASE = ROOT / "assets" / "smollm2-135m-instruct"
SENTENCES = ROOT / "assets" / "data" / "movies.train.jsonl"

STEPS, BATCH, EVALUATION_ROWS, EVALUATION_BATCH = 10, 8, 40, 16
MAX_LENGTH, ALPHA, SEED = 128, 16, 0
TRIALS = (  # learning rate and rank of each trial; the same list on all sides
    (1.0e-3, 8),
    (3.0e-4, 8),
    (2.0e-3, 4),
    (5.0e-4, 16),
    (1.5e-3, 16),
    (2.0e-4, 4),
    (8.0e-4, 8),
    (4.0e-4, 16),
)
RANKS = sorted({rank for _, rank in TRIALS})


@cache
def machine_type() -> NumberType:
    """The number type that this machine's CPU is fast in, in which every side computes."""
    return common_type([cpu_here(THREADS)])


def check_assets() -> None:
    """Raises InputError where the model or the sentences are missing."""
    for path in (BASE / "model.safetensors", SENTENCES):
        if not path.is_file():
            raise InputError(str(path.relative_to(ROOT)), "missing", "run `raytune-ft assets fetch` first")


def write_rows(directory: Path, train_rows: int = STEPS * BATCH) -> tuple[Path, Path]:
    """The first sentences as `train.jsonl`, the ones behind them as `validation.jsonl`."""
    lines = SENTENCES.read_text(encoding="utf-8").splitlines(keepends=True)
    directory.mkdir(parents=True, exist_ok=True)
    train, validation = directory / "train.jsonl", directory / "validation.jsonl"
    train.write_text("".join(lines[:train_rows]), encoding="utf-8")
    validation.write_text("".join(lines[train_rows:][:EVALUATION_ROWS]), encoding="utf-8")
    return train, validation


def write_job(directory: Path, trials: int, **more: Any) -> Path:
    """`job.json` for a peer's script: rows, parameters, and `more`."""
    train, validation = write_rows(directory)
    job = {
        "base": str(BASE),
        "train": str(train),
        "validation": str(validation),
        "trials": [{"learning_rate": rate, "r": rank} for rate, rank in TRIALS[:trials]],
        "ranks": RANKS,
        "steps": STEPS,
        "batch": BATCH,
        "evaluation_batch": EVALUATION_BATCH,
        "max_length": MAX_LENGTH,
        "alpha": ALPHA,
        "seed": SEED,
        "threads": THREADS,
        "dtype": machine_type(),
        **more,
    }
    path = directory / "job.json"
    write_json(path, job)
    return path


def experiment(name: str, train: Path, validation: Path, trials: int, runner: dict[str, Any]) -> dict[str, Any]:
    """The same study as an experiment of ours; its run lies in `runs/` of the working directory."""
    return {
        "name": name,
        "base_model": str(BASE),
        "data": {"train": str(train), "validation": str(validation), "max_length": MAX_LENGTH},
        "method": {"r": TRIALS[0][1], "alpha": ALPHA},
        "train": {
            "learning_rate": TRIALS[0][0],
            "per_device_train_batch_size": BATCH,
            "per_device_eval_batch_size": EVALUATION_BATCH,
            "max_steps": STEPS,
            "attn_implementation": "eager",
        },
        "resources": {"workers": 1, "cpus_per_worker": THREADS},
        "search": {
            "space": {
                "parameters": {"train.learning_rate": {"loguniform": [1.0e-4, 3.0e-3]}, "method.r": {"choice": RANKS}},
                "start_from": [{"train.learning_rate": rate, "method.r": rank} for rate, rank in TRIALS[:trials]],
            },
            "scheduler": {"type": "none"},
            "trials": trials,
        },
        "tracking": {"tensorboard": False},
        "runner": runner,
        "seed": SEED,
    }


def write_experiment(
    directory: Path, trials: int, runner: dict[str, Any], base: Path = BASE, **changes: dict[str, Any]
) -> Path:
    """`experiment.yaml` in `directory`, with `changes` put into its sections."""
    train, validation = write_rows(directory)
    values = {**experiment("lanes", train, validation, trials, runner), "base_model": str(base)}
    for section, settings in changes.items():
        values[section] = {**values[section], **settings}
    path = directory / "experiment.yaml"
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")  # JSON is YAML
    return path


def prepare_rows(directory: Path, train_rows: int) -> dict[str, str]:
    """The first sentences tokenised, for sides that train step by step: an experiment file, and what `prepare` made."""
    from raytune_ft.config.load import load_experiment
    from raytune_ft.objectives.prepared import prepare

    path = write_experiment(directory, 1, {"type": "lane"}, train={"max_steps": 10_000})
    write_rows(directory, train_rows)
    prepared = prepare(load_experiment(path), directory / "data")
    return {"experiment": str(path), "data": str(prepared.directory)}
