"""Reads and writes `metrics.jsonl`, a trial's curve with one line for each report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raytune_ft.metrics.report import with_metrics
from raytune_ft.paths import write_text


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The reports so far, with their metrics by name; the half line of a killed writer is left out."""
    if not path.exists():
        return []
    reports = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n") and line.strip():
            reports.append(with_metrics(json.loads(line)))
    return reports


def write_metrics(path: Path, reports: list[dict[str, Any]]) -> None:
    """Replaces the curve; a trial that restarts from a checkpoint drops the reports that it will make again."""
    write_text(path, "".join(json.dumps(report) + "\n" for report in reports))


def append_metrics(path: Path, report: dict[str, Any]) -> None:
    """Adds one report and flushes it."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(report) + "\n")
        stream.flush()
