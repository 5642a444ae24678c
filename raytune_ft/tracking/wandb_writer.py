"""The process that writes a study's records for Weights & Biases: one for all trials, however many run at once."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal

DEFAULT_INIT_TIMEOUT_S = 30.0
UNREACHABLE = "W&B can't be reached, records stay in {directory}: {error}"


class WandbWriter:
    """A Ray actor; its calls follow one another. Imports W&B, which takes a second, where nobody waits for it.

    Args:
        mode: `online`, or `offline`, which keeps the records on disk.
        **init: What `wandb.init` is told of every trial: project, entity, group and dir.
    """

    def __init__(self, mode: Literal["online", "offline"], **init: Any) -> None:
        self._mode, self._init = mode, init
        self._runs: dict[str, Any] = {}

    def start(self, trial: str, name: str, config: dict[str, Any]) -> str | None:
        """Opens a trial's run; returns a warning once W&B can't be reached, after which records stay on disk."""
        import wandb

        if trial in self._runs:  # it goes on with other parameters
            self._runs[trial].config.update(config, allow_val_change=True)
            return None
        try:
            self._runs[trial] = self._open(trial, name, config)
            return None
        except wandb.errors.CommError as error:
            self._mode = "offline"
            self._runs[trial] = self._open(trial, name, config)
            why = str(error).splitlines()[0]
            return UNREACHABLE.format(directory=os.path.join(self._init["dir"], "wandb"), error=why)

    def log(self, trial: str, metrics: dict[str, float], step: int | None) -> None:
        """Adds a report at an optimizer step."""
        self._runs[trial].log(metrics, step=step)

    def finish(self, trial: str) -> None:
        """Closes a trial's run; online, that waits until its records were sent."""
        if run := self._runs.pop(trial, None):
            run.finish()

    def close(self) -> None:
        """Closes what is open, and ends W&B's own process."""
        import wandb

        for trial in list(self._runs):
            self.finish(trial)
        with contextlib.suppress(Exception):  # the records are written; nothing follows
            wandb.teardown()

    def _open(self, trial: str, name: str, config: dict[str, Any]) -> Any:
        import wandb

        return wandb.init(
            id=trial,
            name=name,
            config=config,
            mode=self._mode,
            reinit="create_new",  # beside the runs of other trials
            allow_val_change=True,
            settings=_quiet_settings(wandb),
            **self._init,
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
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", DEFAULT_INIT_TIMEOUT_S)),
    )
