"""Who else is told about each trial: TensorBoard and Weights & Biases, through Ray Tune's callbacks.

Touches `_WandbLoggingActor` and other private names of `ray.air.integrations.wandb`, read against ray 2.60.0.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment, Wandb
from raytune_ft.config.resolve import redact

log = logging.getLogger(__name__)

UPLOAD_TIMEOUT_S = 60
"""How long the end of a sweep waits for W&B; Ray's own default is half an hour."""

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
        callbacks.append(_tensorboard(run_dir.resolve() / "tensorboard"))
    wandb = experiment.tracking.wandb
    if wandb is not None and wandb.mode != "disabled":
        callbacks.append(_wandb(wandb, experiment.name, run_dir.resolve()))
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
                log.warning("%s is switched off, the search goes on: %s: %s", tracker, type(error).__name__, error)
                return None

        return call

    return type(f"Quiet{kind.__name__}", (kind,), {hook: quiet(getattr(kind, hook)) for hook in _HOOKS})


def _tensorboard(directory: Path) -> Any:
    from ray.tune.logger import TBXLoggerCallback

    class TensorBoard(TBXLoggerCallback):
        """Writes into the run directory at once; Ray's stages its files in /tmp, where a killed driver leaves them."""

        def log_trial_start(self, trial: Any) -> None:
            if trial in self._trial_writer:
                self._trial_writer[trial].close()
            self._trial_writer[trial] = self._summary_writer_cls(str(directory / str(trial)), flush_secs=30)
            self._trial_result[trial] = {}

    return _never_raising(TensorBoard, "TensorBoard")()


def _wandb(settings: Wandb, group: str, run_dir: Path) -> Any:
    import ray
    import wandb
    from ray.air.integrations.wandb import WANDB_ENV_VAR, WandbLoggerCallback, _WandbLoggingActor
    from ray.air.util.node import _force_on_current_node

    class LoggingActor(_WandbLoggingActor):
        """Keeps the records on disk when the server can't be reached."""

        def run(self) -> None:
            parent: Any = super()
            try:
                parent.run()
            except wandb.errors.CommError as error:
                log.warning("W&B can't be reached, records stay in %s: %s", self.kwargs["dir"], error)
                wandb.teardown()
                self.kwargs["mode"] = "offline"
                parent.run()
            finally:
                wandb.teardown()  # else it is torn down while Ray kills the process, with a traceback

    class WeightsAndBiases(WandbLoggerCallback):
        """Ray's callback without its demand for a key when nothing is sent, and without secrets in the config."""

        _logger_actor_cls = LoggingActor
        _remote_logger_class: Any

        def setup(self, *args: Any, **kwargs: Any) -> None:
            variables: dict[str, str] = {}
            if settings.mode == "online":
                parent: Any = super()
                parent.setup(*args, **kwargs)
                if key := os.environ.get(WANDB_ENV_VAR):
                    variables[WANDB_ENV_VAR] = key
            # Ray's own actor would get the key offline too, where any user of Ray's dashboard can read it, and
            # restart after a crash, which makes Ray print an error per trial about the arguments it can't keep.
            here: Any = _force_on_current_node()
            remote: Any = ray.remote(num_cpus=0, runtime_env={"env_vars": variables}, **here)
            self._remote_logger_class = remote(self._logger_actor_cls)

        def _start_logging_actor(self, trial: Any, exclude_results: list[str], **kwargs: Any) -> None:
            Path(trial.local_path).mkdir(parents=True, exist_ok=True)  # the actor changes into it
            kwargs["config"] = redact(kwargs["config"])
            super()._start_logging_actor(trial, exclude_results, **kwargs)

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            # Every result carries the whole configuration, which was sent, redacted, at the start.
            parent: Any = super()
            parent.log_trial_result(iteration, trial, {key: item for key, item in result.items() if key != "config"})

        def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
            for trial in list(self._trial_logging_actors):  # after Ctrl-C, nobody told them to end
                self._signal_logging_actor_stop(trial=trial)
            parent: Any = super()
            parent.on_experiment_end(trials, **info)

        def __del__(self) -> None:
            if self._trial_logging_actors:  # else Ray's version fails noisily when the interpreter is going down
                parent: Any = super()
                parent.__del__()

    run_dir.mkdir(parents=True, exist_ok=True)
    return _never_raising(WeightsAndBiases, "W&B")(
        project=settings.project,
        group=group,
        entity=settings.entity,
        mode=settings.mode,
        dir=str(run_dir),
        reinit="finish_previous",
        upload_timeout=UPLOAD_TIMEOUT_S,
        settings=_quiet_settings(wandb),
    )


def _quiet_settings(wandb: Any) -> Any:
    """No code, git remote, command line or console is recorded: each may hold a secret."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", "30")),
    )
