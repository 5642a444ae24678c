"""A lane's training step without Ray: the same pieces that the lane's loop puts together, driven by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import load_experiment, with_parameters
from raytune_ft.config.training import Lane
from raytune_ft.data.arrow_rows import ArrowRows
from raytune_ft.paths import RunDirectory
from raytune_ft.training.kernel_cache import keep_few_kernels
from raytune_ft.training.lane.model.base import load_lane_base
from raytune_ft.training.lane.packing.together import step_together
from raytune_ft.training.lane.ranks import Ranks
from raytune_ft.training.lane.step import Stepper
from raytune_ft.training.lane.trial import RunningTrial, Splits
from raytune_ft.training.spec import TrialSpec


class LaneDriver:
    """One base with its stepper.

    Args:
        job: The side's job: `experiment`, an experiment file, and `data`, its prepared rows.
        lane: The runner's settings.
        train: Settings of the experiment instead of its own; the number type is the job's by default.
    """

    def __init__(self, job: dict[str, Any], lane: Lane, *, train: dict[str, Any] | None = None) -> None:
        self._experiment: Experiment = with_parameters(
            load_experiment(job["experiment"]), {"train.dtype": job["dtype"], **(train or {})}
        )
        self._base = load_lane_base(self._experiment, lane.step, share=lane.share_base)
        self._stepper = Stepper(self._base, lane.step)
        data = Path(job["data"])
        self._data = data
        self._splits = Splits(ArrowRows(data / "train"), ArrowRows(data / "validation"))

    def base_weights(self) -> Iterator[torch.Tensor]:
        """All of the base's."""
        yield from self._base.model.parameters()

    def trial(self, run: str, number: int, parameters: dict[str, Any]) -> RunningTrial:
        """A trial that begins; what it leaves on disk goes to the directory `run`."""
        experiment = with_parameters(self._experiment, parameters)
        spec = TrialSpec.of(f"{number:04d}", parameters, experiment, RunDirectory(Path(run)))
        return RunningTrial(spec, self._base, self._splits, Ranks(), None)

    def step(self, trials: Sequence[RunningTrial]) -> list[float]:
        """One optimizer step of each, in one pass; their losses."""
        losses = []
        for trial, loss in zip(trials, step_together(self._stepper, trials, Ranks()).losses, strict=True):
            if isinstance(loss, str) or (diverged := trial.take_step(loss)):
                raise RuntimeError(f"trial {trial.name}: {loss if isinstance(loss, str) else diverged}")
            losses.append(loss)
        return losses


def take_threads(threads: int) -> None:
    """As a lane's worker does when it starts."""
    torch.set_num_threads(threads)
    keep_few_kernels()
