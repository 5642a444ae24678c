"""The specification of a trial, which holds everything that a worker needs to know."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.resolve import resolved_values
from raytune_ft.config.objectives.custom import Custom
from raytune_ft.paths import RunDirectory, TrialDirectory, write_json


@dataclass(frozen=True)
class Copied:
    """Another trial's checkpoint that a trial goes on from (exploit of population-based training).

    Attributes:
        trial: Id of the other trial.
        step: Step of the checkpoint.
    """

    trial: str
    step: int


@dataclass(frozen=True)
class TrialSpec:
    """The resolved, frozen specification of one trial.

    Attributes:
        trial_id: Number of the trial in its study, such as `0003`.
        parameters: Values that the search chose, by key path.
        experiment: The experiment with `parameters` filled in.
        data: Directory of the tokenised splits, readable by every worker.
        directory: The trial's own directory, writable by every worker.
        base_loss: File in which the first trial records the base's validation loss for the others.
        copied: The checkpoint that it copied last, from which it goes on with these `parameters`.
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
        """Returns the trial's specification in `run`; a local base, and a trainer, get their absolute path."""
        objective, source = experiment.objective, experiment.base_model
        if isinstance(objective, Custom):
            objective = objective.model_copy(
                update={"trainer": f"{Path(objective.file).resolve()}:{objective.function}"}
            )
        elif (base := Path(source).expanduser()).is_dir():
            source = str(base.resolve())
        resolved = experiment.model_copy(update={"base_model": source, "objective": objective})
        return TrialSpec(trial_id, parameters, resolved, run.data, run.trial(trial_id), run.base_loss, copied)

    def write(self) -> None:
        """Writes `config.json` to the trial's directory."""
        values: dict[str, Any] = {
            "trial": self.trial_id,
            "parameters": self.parameters,
            "experiment": resolved_values(self.experiment),
        }
        if self.copied is not None:
            values["copied"] = asdict(self.copied)
        write_json(self.directory.config, values)
