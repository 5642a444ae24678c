"""What of an experiment's files a job finds on the cluster: uploaded with the working directory, or shared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from raytune_ft.config.experiment import Experiment

# Anchored: `registry` alone would also leave raytune_ft/registry behind. `/.?*`: caches, .git, .venv, .env.
NOT_UPLOADED = ("/.?*", "/assets", "/runs", "/registry", "/wandb", "/outputs", "/dist", "__pycache__", "*.pyc")


def settings_for_cluster(experiment: Experiment, working_dir: Path) -> tuple[list[str], list[str]]:
    """How the job has to name the experiment's files.

    A file that is uploaded keeps its relative name. Any other local file gets its absolute one, and so do the
    directories that are written, because a job's copy of the working directory is thrown away with the job.

    Args:
        experiment: As loaded in `working_dir`, to which its relative paths refer.
        working_dir: The directory that is uploaded.

    Returns:
        `--set` assignments for the job, and the absolute paths that every node must see.
    """
    read = {
        "base_model": experiment.base_model,
        "data.train": experiment.data.train,
        "data.validation": experiment.data.validation,
        "data.test": experiment.data.test,
    }
    written = {"output_dir": experiment.output_dir, "registry.path": experiment.registry.path}
    settings, shared = [], []
    for key, value in {**read, **written}.items():
        if not isinstance(value, str) or "://" in value:
            continue
        path = working_dir / value
        if Path(value).is_absolute():
            shared.append(value)
        elif key in written or (path.exists() and not _is_uploaded(path, working_dir)):
            settings.append(f"{key}={path.resolve()}")
            shared.append(str(path.resolve()))
    earlier = experiment.search.warm_start if experiment.search else []
    if earlier:  # run directories, which are not uploaded
        absolute = [str((working_dir / each).resolve()) for each in earlier]
        settings.append(f"search.warm_start={json.dumps(absolute)}")
        shared += absolute
    return settings, list(dict.fromkeys(shared))


def _is_uploaded(path: Path, working_dir: Path) -> bool:
    try:
        inside = path.resolve().relative_to(working_dir.resolve())
    except ValueError:
        return False
    return not is_left_out(inside.parts)


def is_left_out(parts: Sequence[str]) -> bool:
    """Whether a path relative to the working directory matches `NOT_UPLOADED`."""
    top = f"/{parts[0]}"
    return top in NOT_UPLOADED or top.startswith("/.") or "__pycache__" in parts or parts[-1].endswith(".pyc")
