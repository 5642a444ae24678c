"""All sides over one data set's curves."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any

import optuna
from measures.rounds import say

from quality.curves import Curves, load, names
from quality.peers import PEERS
from quality.score import AT, NEAR, Score, score, summary
from quality.sides import SIDES, play

DEFAULT, RANDOM = "portfolio + tpe + asha", "random"


def compare(curves: Curves, seeds: int, only: Sequence[str] | None) -> dict[str, Any]:
    """Plays every side with every seed.

    Args:
        curves: Of one data set.
        seeds: 0 to `seeds` - 1; a side's first trials are random, and so depend on it.
        only: Names of the sides, or all.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # the processes have a core each, and a model fits faster on its own
    sides = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_quiet) as pool:
        for name in only or (*SIDES, *PEERS):
            if name == DEFAULT and not any(each != curves.name for each in names()):
                say(f"  {name}: left out, there is no other data set that its portfolio could be built from")
                continue
            began = time.monotonic()
            sides[name] = summary(list(pool.map(partial(_score, curves, name), range(seeds))))
            say(f"  {name}: {sides[name]['tokens_to_1_percent']} ({time.monotonic() - began:.0f} s)")
    return {
        "rounds": seeds,
        "configurations": len(curves.curves),
        "validation_rows": curves.validation_rows,
        "best": round(curves.best, 4),
        "near": sum(curve.best <= NEAR * curves.best for curve in curves.curves),
        "portfolio_from": {name: len(load(name).curves) for name in names() if name != curves.name},
        "at_whole_trials": list(AT),
        "random_over_default": _ratio(sides),
        "sides": sides,
    }


def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def _score(curves: Curves, name: str, seed: int) -> Score:
    return score(curves, play(curves, SIDES[name], seed) if name in SIDES else PEERS[name](curves, seed))


def _ratio(sides: dict[str, dict[str, Any]]) -> float | None:
    tokens = [sides[name]["tokens_to_1_percent"] if name in sides else None for name in (RANDOM, DEFAULT)]
    return round(tokens[0] / tokens[1], 2) if tokens[0] and tokens[1] else None
