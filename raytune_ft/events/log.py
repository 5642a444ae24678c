"""`events.jsonl`: what happened in a run, in order, one line an event."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from raytune_ft.events.kinds import Closed, Ended, Event, Progressed, Reported, Started
from raytune_ft.paths import RunDirectory
from raytune_ft.training.steady_clock import steady_stamp

SCHEMA = 1


class EventLog:
    """A listener that writes each event's line at once; later drivers of the run add theirs to the same file.

    Of `Progressed` a line is written where the trial's phase is another than before: where a trial is within a phase
    stands in its `progress.json`.

    Args:
        run: The run directory.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._path = run.events
        self._phases: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Progressed(trial, state):
                if state is None or self._phases.get(trial) == state.phase:
                    return
                self._phases[trial] = state.phase
            case Ended(trial):
                self._phases.pop(trial, None)
        line = {"schema": SCHEMA, "time": steady_stamp(), **as_values(event)}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


def as_values(event: Event) -> dict[str, Any]:
    """The event as JSON values, with its kind as `event`."""
    match event:
        case Started(trial, parameters):
            return {"event": "started", "trial": trial, "parameters": dict(parameters)}
        case Progressed(trial, state):
            return {"event": "progressed", "trial": trial, "state": asdict(state) if state else None}
        case Reported(trial, report):
            return {"event": "reported", "trial": trial, "report": dict(report)}
        case Ended(trial, outcome):
            return {"event": "ended", "trial": trial, **outcome.as_values()}
        case Closed():
            return {"event": "closed", **asdict(event)}


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of `events.jsonl` as they were written; the half line of a driver that was killed is left out."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            try:
                yield json.loads(line)
            except ValueError:  # the driver was killed while it wrote, and the next one went on behind it
                continue
