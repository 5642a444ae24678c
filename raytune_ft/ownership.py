"""Whether a run directory was made by who now reads it: restoring what somebody else left may run their code."""

from __future__ import annotations

import os
from pathlib import Path

from raytune_ft.errors import InputError
from raytune_ft.paths import RunDirectory


def check_own(run: RunDirectory, *, trust: bool) -> None:
    """Refuses a run directory whose files belong to another user.

    Optimizer states of DeepSpeed are pickles, a database and a resolved experiment say which paths are read: whoever
    wrote them decides what happens here.

    Args:
        run: The run directory; one that is not there yet is nobody's.
        trust: The user has looked at it, and says so.

    Raises:
        InputError: Somebody else made it, or a part of it.
    """
    if trust:
        return
    for path in (run.root, run.experiment, run.study, run.trials, run.winner):
        try:
            owner = _owner(path)
        except FileNotFoundError:
            continue
        if owner != os.geteuid():
            what = f"belongs to {_name(owner)}, and restoring from it trusts whoever wrote it"
            raise InputError(str(path), what, "look at what is in there, then add --trust")


def _owner(path: Path) -> int:
    return path.stat().st_uid


def _name(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (user id {uid})"
    except KeyError:
        return f"user id {uid}"
