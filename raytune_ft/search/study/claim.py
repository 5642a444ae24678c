"""Which run a study on a shared storage belongs to, so that two sweeps of one name never mix."""

from __future__ import annotations

import socket
import time
import uuid
from typing import TYPE_CHECKING, Any

from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory, write_text

if TYPE_CHECKING:
    import optuna

RUN_ATTRIBUTE = "run"
WAIT_S = 3.0
"""How long the sweep that has just created a study may take to say whose it is."""


def claim(study: optuna.Study, run: RunDirectory, *, created: bool) -> None:
    """Notes in the study which run it belongs to; a run that was moved keeps its study.

    Args:
        study: Of the experiment's name.
        run: The run directory.
        created: Whether this process has just created the study, which only one can.

    Raises:
        InputError: It is another run's.
    """
    mine = _identity(run)
    deadline = time.monotonic() + (0.0 if created else WAIT_S)
    while (known := _owner(study)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if known is None:  # new, or its creator was killed on the spot
        study.set_user_attr(RUN_ATTRIBUTE, {"id": mine, "at": f"{socket.gethostname()}:{run.root.resolve()}"})
    elif known["id"] != mine:
        where = f"search.storage: study {study.study_name}"
        raise InputError(where, f"belongs to the run {known['at']}", "change `name`, or go on with that run")


def _identity(run: RunDirectory) -> str:
    if not run.identity.is_file():
        write_text(run.identity, uuid.uuid4().hex + "\n")
    return run.identity.read_text(encoding="utf-8").strip()


def _owner(study: optuna.Study) -> dict[str, Any] | None:
    owner: dict[str, Any] | None = study.user_attrs.get(RUN_ATTRIBUTE)
    return owner
