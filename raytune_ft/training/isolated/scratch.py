"""The node-local directory to which a trial's ranks write a checkpoint before Ray Train copies it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from raytune_ft.paths import TrialDirectory


def scratch_directory(trial: TrialDirectory) -> Path:
    """Creates the directory, whose path is equal for all ranks of a node and which only this user can access.

    Raises:
        PermissionError: Another user created it first; its files must not be trusted, since they would be unpickled.
    """
    own = hashlib.sha256(str(trial.root).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"raytune-ft-{os.getuid()}-{own}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{path}: belongs to somebody else; remove it, or set TMPDIR")
    return path
