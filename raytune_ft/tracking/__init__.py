"""Records each trial in TensorBoard and Weights & Biases, by listening to the run's events."""

from __future__ import annotations

import logging
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.events.kinds import Event, Listener

log = logging.getLogger(__name__)


def trackers(experiment: Experiment, run_dir: Path) -> list[Listener]:
    """Returns the trackers that the experiment asks for, each a listener of events.

    TensorBoard's files go to `run_dir/tensorboard/<trial>`, W&B's to `run_dir/wandb`. A tracker that fails is
    switched off with one warning, and the search goes on.

    Args:
        experiment: The experiment, which sets the trackers, and whose name is the W&B group.
        run_dir: The run directory.
    """
    found: list[Listener] = []
    if experiment.tracking.tensorboard:
        from raytune_ft.tracking.tensorboard import TensorBoard

        found.append(NeverRaising(TensorBoard(run_dir.resolve() / "tensorboard"), "TensorBoard"))
    wandb = experiment.tracking.wandb
    if wandb is not None and wandb.mode != "disabled":
        from raytune_ft.tracking.weights_and_biases import WeightsAndBiases

        found.append(NeverRaising(WeightsAndBiases(wandb, experiment.name, run_dir.resolve()), "W&B"))
    return found


class NeverRaising:
    """Wraps a tracker, so that its first failure is logged and switches it off.

    Args:
        tracker: The tracker, a listener of events.
        name: The tracker's name for users.

    Attributes:
        failed: Whether the tracker is switched off.
    """

    def __init__(self, tracker: Listener, name: str) -> None:
        self._tracker, self._name = tracker, name
        self.failed = False

    def __call__(self, event: Event) -> None:
        if self.failed:
            return
        try:
            self._tracker(event)
        except Exception as error:
            self.failed = True
            why = (str(error).strip().splitlines() or [""])[-1]
            log.warning("%s is switched off, the search goes on: %s: %s", self._name, type(error).__name__, why)
