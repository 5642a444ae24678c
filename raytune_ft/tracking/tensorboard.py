"""Writes TensorBoard's event files, in one directory for each trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raytune_ft.events.kinds import Closed, Ended, Event, Reported, Started
from raytune_ft.metrics.report import METRICS

FLUSH_S = 30


class TensorBoard:
    """Writes each trial's metrics by optimizer step, and at its end its parameters with its last metrics.

    The files are in the run directory from the first report, so that a killed driver leaves them there.

    Args:
        directory: The directory that gets a folder for each trial.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[str, Any] = {}
        self._parameters: dict[str, Mapping[str, Any]] = {}
        self._last: dict[str, dict[str, float]] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case Started(trial, parameters):
                self._close(trial)
                self._parameters[trial] = parameters
                self._open(trial)
            case Reported(trial, report):
                self._write(trial, report)
            case Ended(trial):
                self._write_parameters(trial)
                self._close(trial)
            case Closed():
                for trial in list(self._writers):
                    self._close(trial)

    def _open(self, trial: str) -> Any:
        from tensorboardX import SummaryWriter

        self._writers[trial] = SummaryWriter(str(self._directory / trial), flush_secs=FLUSH_S)
        return self._writers[trial]

    def _write(self, trial: str, report: Mapping[str, Any]) -> None:
        writer = self._writers.get(trial) or self._open(trial)
        self._last[trial] = numbers(report)
        for name, value in self._last[trial].items():
            writer.add_scalar(name, value, global_step=report.get("step"))
        writer.flush()

    def _write_parameters(self, trial: str) -> None:
        """Writes the parameters for TensorBoard's HParams page, which takes numbers, texts and booleans only."""
        from tensorboardX.summary import hparams

        parameters = self._parameters.get(trial, {})
        kept = {key: value for key, value in parameters.items() if isinstance(value, bool | int | float | str)}
        if (writer := self._writers.get(trial)) and kept and self._last.get(trial):
            for summary in hparams(hparam_dict=kept, metric_dict=self._last[trial]):
                writer.file_writer.add_summary(summary)

    def _close(self, trial: str) -> None:
        self._last.pop(trial, None)
        if writer := self._writers.pop(trial, None):
            writer.close()


def numbers(report: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers of a report by name, its metrics included, without NaN."""
    flat = {**report, **report.get(METRICS, {})}
    return {
        key: value
        for key, value in flat.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and value == value
    }
