"""Interleaved rounds: every side runs once in each round, so that a slow minute of the machine hits them all."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from raytune_ft.hardware.here import cpu_name

T = TypeVar("T")
ISA_LIMITS = ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""With both set to AVX2, oneDNN and PyTorch multiply as on a CPU without AVX-512: bfloat16 is emulated."""


def interleave(
    sides: Mapping[str, Callable[[], T]], rounds: Mapping[str, int], earlier: Mapping[str, Sequence[T]] | None = None
) -> dict[str, list[T]]:
    """What each side returned in each of its rounds; a side with fewer rounds runs in the first of them.

    Args:
        sides: Name -> one run of the side.
        rounds: Name -> how many runs; 0 leaves the side out.
        earlier: Name -> what it returned in rounds before these.
    """
    before = earlier or {}
    results = {name: list(before.get(name, ())) for name in sides if rounds[name] or before.get(name)}
    done = max(map(len, results.values()), default=0)
    for number in range(max(rounds.values(), default=0)):
        names = [name for name in sides if number < rounds[name]]
        first = (done + number) % len(names)
        for name in names[first:] + names[:first]:  # nobody is always the first
            results[name].append(sides[name]())
            say(f"  round {done + number + 1}, {name}: {results[name][-1]}")
    return results


def medians(results: Mapping[str, Sequence[float]], digits: int = 3) -> dict[str, float]:
    """Median of each side."""
    return {name: round(statistics.median(values), digits) for name, values in results.items() if values}


def spread(results: Mapping[str, Sequence[float]], digits: int = 3) -> dict[str, list[float]]:
    """Least and greatest of each side."""
    return {
        name: [round(min(values), digits), round(max(values), digits)] for name, values in results.items() if values
    }


def ratio(values: Mapping[str, float], name: str, to: str) -> float | None:
    """`values[name] / values[to]`, where both were measured."""
    return round(values[name] / values[to], 2) if name in values and to in values else None


def with_load(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The measure's result, with the machine and its load before and after it."""
    before = round(os.getloadavg()[0], 2)
    result = measure()
    return {"machine": machine(), "load_before": before, "load_after": round(os.getloadavg()[0], 2), **result}


def machine() -> str:
    """What this was measured on, in a line: its cores, its CPU with the flags that count, and where libraries are told
    to leave flags unused, that too."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{os.cpu_count()} cores", platform.machine(), cpu_name(), f"{memory:.0f} GiB"]
    limited = [f"{name}={os.environ[name]}" for name in ISA_LIMITS if name in os.environ]
    return ", ".join(part for part in (*parts, f"Python {platform.python_version()}", *limited) if part)


def code(root: Path = Path(__file__).parents[2]) -> str:
    """Which code is measured: git's hashes of it, or `changed` where files differ from the last commit.

    Args:
        root: Of the checkout.
    """
    parts = ["raytune_ft", "benchmarks/peers", "benchmarks/measures/inputs.py"]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout

    try:
        if git("status", "--porcelain", "--", *parts):
            return "changed"
        return " ".join(each[:12] for each in git("rev-parse", *(f"HEAD:{part}" for part in parts)).split())
    except (OSError, subprocess.CalledProcessError):
        return "changed"  # no git, or no checkout


def say(line: str) -> None:
    """Progress goes to stderr; stdout is the table's."""
    print(line, file=sys.stderr, flush=True)
