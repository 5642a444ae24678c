"""The node's own directory in which a trial's ranks write a checkpoint before Ray Train takes it."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from raytune_ft.paths import TrialDirectory


def scratch_directory(trial: TrialDirectory) -> Path:
    """The same path for all ranks of a node, for this user only.

    Raises:
        PermissionError: Somebody else made it first; what lies in it would be unpickled.
    """
    own = hashlib.sha256(str(trial.root).encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"raytune-ft-{os.getuid()}-{own}"
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{path}: belongs to somebody else; remove it, or set TMPDIR")
    return path
