"""Sends records for Weights & Biases from the driver to the process that writes them.

Ray's own callback starts two processes for each trial, and waits for one of them at the trial's first report, while a
lane is idle for a second.
"""

from __future__ import annotations

import logging
import os
import secrets
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Wandb
from raytune_ft.config.files.resolve import redact
from raytune_ft.events.kinds import Closed, Ended, Event, Reported, Started
from raytune_ft.tracking.tensorboard import numbers

log = logging.getLogger(__name__)

KEY = "WANDB_API_KEY"
END_TIMEOUT_S = 60.0
"""Seconds that the end of a sweep waits for records to be sent."""


class WeightsAndBiases:
    """Passes events on to the writer's process, and does not wait for it until the sweep has ended.

    Args:
        settings: The experiment's W&B settings.
        group: The W&B group of all trials' runs.
        run_dir: The run directory as an absolute path; it gets the folder `wandb`.
    """

    def __init__(self, settings: Wandb, group: str, run_dir: Path) -> None:
        self._settings, self._group, self._run_dir = settings, group, run_dir
        self._driver = secrets.token_hex(4)  # a trial that a later driver resumes is a new W&B run
        self._writer: Any = None
        self._asked: list[Any] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Started(trial, parameters):
                self._check_login()
                self._say("start", self._id(trial), trial, redact(dict(parameters)))
            case Reported(trial, report):
                self._say("log", self._id(trial), numbers(report), report.get("step"))
            case Ended(trial):
                self._say("finish", self._id(trial))
            case Closed():
                self._close()

    def _id(self, trial: str) -> str:
        return f"{self._driver}-{trial}"

    def _check_login(self) -> None:
        """Raises ValueError if records are to be sent, and nobody is logged in to W&B."""
        if self._settings.mode == "online" and not os.environ.get(KEY) and not _logged_in():
            raise ValueError(f"no key to send records with; set {KEY}, or run wandb login")

    def _close(self) -> None:
        """Waits until all records are written, and in `online` mode sent; at most `END_TIMEOUT_S` seconds."""
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
        """Logs the warnings of finished calls; raises a call's error, also if its process died."""
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
        # The key is passed on only if it is needed: users of Ray's dashboard can read it there.
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
