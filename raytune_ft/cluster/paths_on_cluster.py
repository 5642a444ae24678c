"""What of an experiment's files a job finds on the cluster: sent with the job, or shared by every node."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.overrides import value_at
from raytune_ft.search.storage import JOURNAL_SCHEME, journal_path

READ = ("base_model", "data.train", "data.validation", "data.test", "promotion.retention.text")
"""Settings that name what a job reads."""
READ_AT_LOADING = ("search.space", "search.algorithm.file")
"""Likewise; the loaded experiment holds the files' contents in their place."""
WRITTEN = ("output_dir", "registry.path")
"""Settings that name directories which a job writes."""
_SQLITE = "sqlite:///"
LEFT_OUT = ("assets", "runs", "registry", "wandb", "outputs", "dist")
"""Folders of a working directory that hold what runs leave behind, or what is fetched: large, and never sent."""


@dataclass(frozen=True)
class Named:
    """A file or a directory of the working directory that a setting names."""

    setting: str
    path: Path
    """Relative to the working directory."""


@dataclass(frozen=True)
class PathsOnCluster:
    """How a job has to name the experiment's files."""

    settings: tuple[str, ...]
    """`--set` assignments for the job."""
    shared: tuple[str, ...]
    """Absolute paths that every node must see."""
    sent: tuple[Named, ...]
    """What has to go along with the job."""


def paths_on_cluster(experiment: Experiment, values: Mapping[str, Any], working_dir: Path) -> PathsOnCluster:
    """Which of the experiment's files are sent, and how the job names the others.

    A file that is sent keeps its relative name. Any other local file gets its absolute one, and so do the directories
    that are written, because a job's copy of its files is thrown away with the job.

    Args:
        experiment: As loaded in `working_dir`, to which its relative paths refer.
        values: The experiment's own text, with what was set besides; it still has the names of the files that
            loading puts in.
        working_dir: The directory whose files may be sent.
    """
    own = experiment.model_dump(mode="json")
    named = {key: value_at(own, key) for key in (*READ, *WRITTEN)}
    named |= {key: value_at(values, key) for key in READ_AT_LOADING}
    settings: list[str] = []
    shared: list[str] = []
    sent = []
    for key, value in named.items():
        if not isinstance(value, str) or "://" in value:
            continue
        path = working_dir / value
        if Path(value).is_absolute():
            shared.append(value)
        elif key not in WRITTEN and _is_sent(value, working_dir):
            sent.append(Named(key, Path(os.path.normpath(value))))
        elif key in WRITTEN or path.exists():
            settings.append(f"{key}={path.resolve()}")
            shared.append(str(path.resolve()))
    if experiment.search is not None:
        storage = experiment.search.storage or ""
        scheme = JOURNAL_SCHEME if journal_path(storage) is not None else _SQLITE
        if scheme == JOURNAL_SCHEME or storage.startswith(_SQLITE):  # a file that the study is kept in
            kept = (working_dir / Path(storage.removeprefix(scheme)).expanduser()).resolve()
            settings.append(f"search.storage={scheme}{kept}")
            shared.append(str(kept))
        if earlier := experiment.search.warm_start:  # run directories, which are not sent
            absolute = [str((working_dir / each).resolve()) for each in earlier]
            settings.append(f"search.warm_start={json.dumps(absolute)}")
            shared += absolute
    return PathsOnCluster(tuple(settings), tuple(dict.fromkeys(shared)), tuple(sent))


def _is_sent(value: str, working_dir: Path) -> bool:
    """Whether what is named so is there, inside the working directory, and in none of the folders left out; a link is
    also what it leads to."""
    path = working_dir / value
    if not path.exists() or not path.resolve().is_relative_to(working_dir.resolve()):
        return False
    names = Path(os.path.normpath(value)), path.resolve().relative_to(working_dir.resolve())
    return not any(is_left_out(name.parts) for name in names)


def is_left_out(parts: Sequence[str]) -> bool:
    """Whether a path relative to the working directory is all of it or leaves it, or lies in a folder of results or in
    a hidden one."""
    return not parts or parts[0] in LEFT_OUT or parts[0].startswith(".")
