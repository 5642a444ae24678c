"""Weights & Biases: what the driver tells the process that writes its records.

Ray's own callback starts two processes for each trial, and waits for one of them at the trial's first report, while a
lane stands idle for a second.
"""

from __future__ import annotations

import logging
import os
from numbers import Number
from pathlib import Path
from typing import Any

from ray.tune.logger import LoggerCallback

from raytune_ft.config.experiment import Wandb
from raytune_ft.config.files.resolve import redact

log = logging.getLogger(__name__)

KEY = "WANDB_API_KEY"
END_TIMEOUT_S = 60.0
"""How long the end of a sweep waits for records to be sent."""
ABOUT = ("trial_id", "experiment_tag", "node_ip", "hostname", "pid", "date")
"""What of a result describes the trial rather than its progress."""
LEFT_OUT = ("config", "done", "should_checkpoint")
"""What of a result is not recorded: every one carries the whole configuration, which was sent, redacted, at first."""


class WeightsAndBiases(LoggerCallback):
    """Hands on what Tune says, and never waits for an answer before the end of the search.

    Args:
        settings: Of the experiment.
        group: Of all trials' runs.
        run_dir: Absolute; gets the folder `wandb`.
    """

    def __init__(self, settings: Wandb, group: str, run_dir: Path) -> None:
        self._settings, self._group, self._run_dir = settings, group, run_dir
        self._writer: Any = None
        self._asked: list[Any] = []

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Raises ValueError where records are to be sent, and nobody is logged in."""
        if self._settings.mode == "online" and not os.environ.get(KEY) and not _logged_in():
            raise ValueError(f"no key to send records with; set {KEY}, or run wandb login")

    def log_trial_start(self, trial: Any) -> None:
        self._say("start", trial.trial_id, str(trial), redact(trial.config))

    def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
        from ray.tune.utils import flatten_dict

        values = flatten_dict({key: value for key, value in result.items() if key not in LEFT_OUT}, delimiter="/")
        about = {key: values.pop(key) for key in ABOUT if key in values}
        metrics = {key: value for key, value in values.items() if isinstance(value, Number)}
        self._say("log", trial.trial_id, metrics, result.get("training_iteration"), about)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        self._say("finish", trial.trial_id)

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """Waits until all records are written, which online means sent."""
        import ray

        if self._writer is None:
            return
        self._say("close")
        self._hear(END_TIMEOUT_S)
        if self._asked:
            log.warning("W&B took longer than %g s to end; wandb sync sends what is in %s", END_TIMEOUT_S, self._place)
        ray.kill(self._writer)
        self._writer = None

    @property
    def _place(self) -> Path:
        return self._run_dir / "wandb"

    def _say(self, what: str, *args: Any) -> None:
        if self._writer is None:
            self._writer = self._start_writer()
        self._asked.append(getattr(self._writer, what).remote(*args))
        self._hear(0.0)

    def _hear(self, wait_s: float) -> None:
        """Passes on warnings; raises what a call failed with, if only because its process died."""
        import ray

        done, self._asked = ray.wait(self._asked, num_returns=len(self._asked), timeout=wait_s)
        for warning in filter(None, ray.get(done)):
            log.warning("%s", warning)

    def _start_writer(self) -> Any:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from raytune_ft.tracking.wandb_writer import WandbWriter

        self._run_dir.mkdir(parents=True, exist_ok=True)
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options: dict[str, Any] = {"num_cpus": 0, "scheduling_strategy": here}
        # Only where it is needed: whoever may look at Ray's dashboard can read it there.
        if self._settings.mode == "online" and (key := os.environ.get(KEY)):
            options["runtime_env"] = {"env_vars": {KEY: key}}
        return (
            ray.remote(WandbWriter)
            .options(**options)
            .remote(
                self._settings.mode,
                project=self._settings.project,
                entity=self._settings.entity,
                group=self._group,
                dir=str(self._run_dir),
            )
        )


def _logged_in() -> bool:
    import wandb

    return bool(wandb.api.api_key)
