"""All that a worker is told about its trial."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_values
from raytune_ft.paths import RunDirectory, TrialDirectory, write_json


@dataclass(frozen=True)
class Copied:
    """Another trial's checkpoint that a trial goes on from (population-based training's exploit).

    Attributes:
        trial: Whose.
        step: At which.
    """

    trial: str
    step: int


@dataclass(frozen=True)
class TrialSpec:
    """One trial, resolved and frozen.

    Attributes:
        trial_id: Number of the trial in its study, e.g. `0003`.
        parameters: What the search chose: key path -> value.
        experiment: The experiment with `parameters` put in.
        data: Directory of the tokenised splits, readable by every worker.
        directory: The trial's own directory, writable by every worker.
        base_loss: Where the first trial leaves the base's own validation loss for the others.
        copied: What it copied last, with these `parameters` from then on.
    """

    trial_id: str
    parameters: dict[str, Any]
    experiment: Experiment
    data: Path
    directory: TrialDirectory
    base_loss: Path
    copied: Copied | None = None

    @staticmethod
    def of(
        trial_id: str,
        parameters: dict[str, Any],
        experiment: Experiment,
        run: RunDirectory,
        copied: Copied | None = None,
    ) -> TrialSpec:
        """The trial of that id in `run`; a base on disk gets its whole path, as workers run in another directory."""
        base = Path(experiment.base_model).expanduser()
        source = str(base.resolve()) if base.is_dir() else experiment.base_model
        resolved = experiment.model_copy(update={"base_model": source})
        return TrialSpec(trial_id, parameters, resolved, run.data, run.trial(trial_id), run.base_loss, copied)

    def write(self) -> None:
        """Leaves `config.json` in the trial's directory."""
        values: dict[str, Any] = {
            "trial": self.trial_id,
            "parameters": self.parameters,
            "experiment": resolved_values(self.experiment),
        }
        if self.copied is not None:
            values["copied"] = asdict(self.copied)
        write_json(self.directory.config, values)
