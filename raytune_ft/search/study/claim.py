"""Marks which run a study on a shared storage belongs to, so that two sweeps of the same name never mix."""

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
"""Seconds that a sweep may take, once it has created a study, to mark it as its own."""


def claim(study: optuna.Study, run: RunDirectory, *, created: bool) -> None:
    """Marks the study as this run's; a run directory that was moved keeps its study.

    Args:
        study: The study of the experiment's name.
        run: The run directory.
        created: Whether this process has just created the study, which only one process can.

    Raises:
        InputError: The study belongs to another run.
    """
    mine = _identity(run)
    deadline = time.monotonic() + (0.0 if created else WAIT_S)
    while (known := _owner(study)) is None and time.monotonic() < deadline:
        time.sleep(0.1)
    if known is None:  # the study is new, or its creator was killed at once
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
