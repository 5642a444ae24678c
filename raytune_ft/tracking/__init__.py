"""Who else is told about each trial: TensorBoard and Weights & Biases, through Ray Tune's callbacks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment

log = logging.getLogger(__name__)

_HOOKS = (
    "setup",
    "on_step_begin",
    "on_step_end",
    "on_trial_start",
    "on_trial_restore",
    "on_trial_save",
    "on_trial_result",
    "on_trial_complete",
    "on_trial_recover",
    "on_trial_error",
    "on_checkpoint",
    "on_experiment_end",
)


def tune_callbacks(experiment: Experiment, run_dir: Path) -> list[Any]:
    """The Ray Tune callbacks of the trackers that the experiment asks for.

    TensorBoard's files go to `run_dir/tensorboard/<trial>`, W&B's to `run_dir/wandb`. A tracker that fails is
    switched off with one warning; the search goes on. Tune adds a TensorBoard, a CSV and a JSON logger of its own
    unless TUNE_DISABLE_AUTO_CALLBACK_LOGGERS=1 stands in the driver's environment.

    Args:
        experiment: Says which trackers, and names the W&B group.
        run_dir: The run directory.

    Returns:
        Instances of `ray.tune.Callback` for `RunConfig(callbacks=...)`.
    """
    callbacks = []
    if experiment.tracking.tensorboard:
        from raytune_ft.tracking.tensorboard import TensorBoard

        callbacks.append(_never_raising(TensorBoard, "TensorBoard")(run_dir.resolve() / "tensorboard"))
    wandb = experiment.tracking.wandb
    if wandb is not None and wandb.mode != "disabled":
        from raytune_ft.tracking.weights_and_biases import WeightsAndBiases

        callbacks.append(_never_raising(WeightsAndBiases, "W&B")(wandb, experiment.name, run_dir.resolve()))
    return callbacks


def _never_raising(kind: type, tracker: str) -> type:
    """A subclass of a Tune callback whose hooks never raise: the first failure is logged and ends the tracker."""

    def quiet(hook: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if getattr(self, "tracker_failed", False):
                return None
            try:
                return hook(self, *args, **kwargs)
            except Exception as error:
                self.tracker_failed = True
                why = str(error).strip().splitlines()
                log.warning(
                    "%s is switched off, the search goes on: %s: %s",
                    tracker,
                    type(error).__name__,
                    why[-1] if why else "",
                )
                return None

        return call

    return type(f"Quiet{kind.__name__}", (kind,), {hook: quiet(getattr(kind, hook)) for hook in _HOOKS})
