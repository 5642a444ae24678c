"""The one process that writes a study's records for Weights & Biases, however many trials run at once."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal

DEFAULT_INIT_TIMEOUT_S = 30.0
UNREACHABLE = "W&B can't be reached, records stay in {directory}: {error}"


class WandbWriter:
    """A Ray actor that makes one W&B call at a time. It imports W&B itself, for a second in which nobody waits for it.

    Args:
        mode: `online`, or `offline`, which keeps the records on disk.
        **init: Arguments of `wandb.init` for every trial: project, entity, group and dir.
    """

    def __init__(self, mode: Literal["online", "offline"], **init: Any) -> None:
        self._mode, self._init = mode, init
        self._runs: dict[str, Any] = {}

    def start(self, trial: str, name: str, config: dict[str, Any]) -> str | None:
        """Opens a trial's W&B run; returns a warning if W&B can't be reached, after which records stay on disk."""
        import wandb

        if trial in self._runs:  # the trial goes on with other parameters
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
        """Logs a report's metrics at an optimizer step."""
        self._runs[trial].log(metrics, step=step)

    def finish(self, trial: str) -> None:
        """Closes a trial's W&B run; in `online` mode it waits until the records are sent."""
        if run := self._runs.pop(trial, None):
            run.finish()

    def close(self) -> None:
        """Closes all open runs, and ends W&B's own process."""
        import wandb

        for trial in list(self._runs):
            self.finish(trial)
        with contextlib.suppress(Exception):  # the records are written, and nothing follows
            wandb.teardown()

    def _open(self, trial: str, name: str, config: dict[str, Any]) -> Any:
        import wandb

        return wandb.init(
            id=trial,
            name=name,
            config=config,
            mode=self._mode,
            reinit="create_new",  # other trials' runs stay open
            allow_val_change=True,
            settings=_quiet_settings(wandb),
            **self._init,
        )


def _quiet_settings(wandb: Any) -> Any:
    """Returns settings that record no code, git remote, command line or console, as each may hold a secret."""
    return wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        init_timeout=float(os.environ.get("WANDB_INIT_TIMEOUT", DEFAULT_INIT_TIMEOUT_S)),
    )
