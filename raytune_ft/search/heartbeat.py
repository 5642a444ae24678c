"""A thread beside a search that tells, every few seconds, where each running trial is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from raytune_ft.events.kinds import Ended, Event, Listener, Progressed, Reported, Started
from raytune_ft.paths import RunDirectory
from raytune_ft.training.metrics_log import read_metrics
from raytune_ft.training.progress import read_progress

LOOK_S = 2.0


class Heartbeat:
    """Passes events on, and adds `Progressed` for each trial that runs, for the length of a `with` block.

    Args:
        events: Is told.
        run: The run whose trials leave `progress.json`.
        notices: Lines for the user that have come since it was called last.
        log: Takes them.
        reports: Tell of reports too, as they come to `metrics.jsonl`: nobody else does.
        every_s: Between two looks.
    """

    def __init__(
        self,
        events: Listener,
        run: RunDirectory,
        notices: Callable[[], list[str]] = lambda: [],
        log: Callable[[str], None] = lambda line: None,
        *,
        reports: bool = False,
        every_s: float = LOOK_S,
    ) -> None:
        self._events, self._run, self._notices, self._log = events, run, notices, log
        self._every_s = every_s
        self._reports, self._told = reports, dict[str, int]()
        self._running: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._look, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join(self._every_s)  # it may wait for a storage or a Ray that does not answer
        if kind is None:
            self._raise_what_a_listener_raised()

    def __call__(self, event: Event) -> None:
        """Passes an event on, behind the reports that come before it.

        An error that a listener raised in the thread is raised here, so that it ends the search as any other does.
        """
        self._raise_what_a_listener_raised()
        with self._lock:
            match event:
                case Started(trial):
                    self._run.trial(trial).progress.unlink(missing_ok=True)  # of an earlier driver
                    self._running.add(trial)
                    self._told[trial] = len(self._new_reports(trial))
                case Ended(trial):
                    self._tell_reports(trial)
                    self._running.discard(trial)
            self._events(event)

    def _raise_what_a_listener_raised(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _look(self) -> None:
        try:
            self._look_until_over()
        except Exception as error:
            self._error = error

    def _look_until_over(self) -> None:
        while not self._over.wait(self._every_s):
            for line in self._notices():
                self._log(line)
            with self._lock:
                running = sorted(self._running)
            for trial in running:
                state = read_progress(self._run.trial(trial).progress)
                with self._lock:
                    if trial in self._running:  # it may have ended meanwhile
                        self._tell_reports(trial)
                        self._events(Progressed(trial, state))

    def _tell_reports(self, trial: str) -> None:
        for report in self._new_reports(trial):
            self._told[trial] = self._told.get(trial, 0) + 1
            self._events(Reported(trial, report))

    def _new_reports(self, trial: str) -> list[dict[str, Any]]:
        if not self._reports:
            return []
        return read_metrics(self._run.trial(trial).metrics)[self._told.get(trial, 0) :]
