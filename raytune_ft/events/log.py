"""`events.jsonl`: what happened in a run, in order, one line an event."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

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
        self._begun = False

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
        with self._path.open("ab+") as stream:
            stream.write(self._behind_a_half_line(stream) + json.dumps(line).encode("utf-8") + b"\n")

    def _behind_a_half_line(self, stream: BinaryIO) -> bytes:
        """What comes before this driver's first line: a line end, where a killed driver left half a line."""
        if self._begun:
            return b""
        self._begun = True
        if stream.seek(0, os.SEEK_END) == 0:
            return b""
        stream.seek(-1, os.SEEK_END)
        return b"" if stream.read(1) == b"\n" else b"\n"


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
            except ValueError:  # half a line
                continue
