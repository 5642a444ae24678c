"""Decides which of an experiment's files are sent with a job, and which must be on storage that every node shares."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.files.overrides import value_at
from raytune_ft.errors import InputError
from raytune_ft.search.study.storage import JOURNAL_SCHEME, journal_path

TRAINER = "objective.trainer"
"""The setting that names a file and, behind a colon, a function of it."""
READ = ("base_model", "data.train", "data.validation", "data.test", "promotion.retention.text", TRAINER)
"""Settings that name files or models which a job reads."""
FILES = tuple(key for key in READ if key != "base_model")
"""Those of READ that can only be files; a base model may be a hub id."""
READ_AT_LOADING = ("search.space", "search.algorithm.file")
"""Settings that name files whose contents replace the name in the loaded experiment."""
WRITTEN = ("output_dir", "registry.path")
"""Settings that name directories which a job writes."""
_SQLITE = "sqlite:///"
LEFT_OUT = ("assets", "runs", "registry", "wandb", "outputs", "dist")
"""Folders of a working directory that hold results or downloads, which are large and never sent."""
LEFT_OUT_ANYWHERE = ("runs", "wandb")
"""Those of LEFT_OUT that are left out of subfolders too; there the other names may be packages."""


@dataclass(frozen=True)
class Named:
    """A file or directory in the working directory that a setting names."""

    setting: str
    path: Path
    """Relative to the working directory."""


@dataclass(frozen=True)
class PathsOnCluster:
    """The names by which a job finds the experiment's files."""

    settings: tuple[str, ...]
    """`--set` assignments for the job."""
    shared: tuple[str, ...]
    """Absolute paths that every node must see."""
    sent: tuple[Named, ...]
    """The files and directories to send with the job."""


def paths_on_cluster(experiment: Experiment, values: Mapping[str, Any], working_dir: Path) -> PathsOnCluster:
    """Decides which of the experiment's files are sent, and how the job names the others.

    A file that is sent keeps its relative path. Any other local file gets its absolute path, and so do the directories
    that the job writes, because Ray deletes a job's copy of the working directory with the job.

    Args:
        experiment: The experiment as loaded in `working_dir`, to which its relative paths refer.
        values: The experiment file's values with the overrides; unlike `experiment`, they still hold the names of
            the files of READ_AT_LOADING.
        working_dir: The directory whose files may be sent.
    """
    own = experiment.model_dump(mode="json")
    named = {key: value_at(own, key) for key in (*READ, *WRITTEN)}
    named |= {key: value_at(values, key) for key in READ_AT_LOADING}
    settings: list[str] = []
    shared: list[str] = []
    sent = []
    for key, value in named.items():
        # An empty name stands for what a custom objective does without.
        if not isinstance(value, str) or not value or "://" in value:
            continue
        function = ""
        if key == TRAINER:
            value, colon, name = value.rpartition(":")
            function = colon + name
        path = working_dir / value
        if Path(value).is_absolute():
            shared.append(value)
        elif key not in WRITTEN and (inside := _sent_as(value, working_dir)):
            sent.append(Named(key, inside))
            if ".." in Path(value).parts:  # the directory above may not exist on the cluster
                settings.append(f"{key}={inside}{function}")
        elif key in FILES and not path.exists():
            what = f"no file {value} in {working_dir}, so the job would not have it"
            raise InputError(key, what, "give its path from there, or an absolute one that every node sees")
        elif key in WRITTEN or path.exists():
            settings.append(f"{key}={path.resolve()}{function}")
            shared.append(str(path.resolve()))
    if experiment.search is not None:
        storage = experiment.search.storage or ""
        scheme = JOURNAL_SCHEME if journal_path(storage) is not None else _SQLITE
        if scheme == JOURNAL_SCHEME or storage.startswith(_SQLITE):  # the study is stored in a file
            kept = (working_dir / Path(storage.removeprefix(scheme)).expanduser()).resolve()
            settings.append(f"search.storage={scheme}{kept}")
            shared.append(str(kept))
        if earlier := experiment.search.warm_start:  # run directories, which are not sent
            absolute = [str((working_dir / each).resolve()) for each in earlier]
            settings.append(f"search.warm_start={json.dumps(absolute)}")
            shared += absolute
    return PathsOnCluster(tuple(settings), tuple(dict.fromkeys(shared)), tuple(sent))


def _sent_as(value: str, working_dir: Path) -> Path | None:
    """Returns the path relative to the working directory under which a job finds the file, or None if it is not sent.

    It is sent if it exists inside the working directory and is in none of the folders that are left out. For a link,
    that must hold for its target too.
    """
    names = names_inside(Path(value), working_dir)
    return None if names is None or any(is_left_out(each.parts) for each in names) else names[0]


def names_inside(path: Path, working_dir: Path) -> tuple[Path, Path] | None:
    """Returns a path relative to the working directory twice: as written, and with all links resolved.

    If it is written with `..`, or outside the working directory, the links of its folder are resolved in the first
    too. The result is None if there is no such file or directory inside the working directory.
    """
    root = Path(os.path.realpath(working_dir))
    written = root / path
    if not written.exists():
        return None
    target = Path(os.path.realpath(written))
    if not target.is_relative_to(root):
        return None
    if ".." in written.parts or not written.is_relative_to(root):
        place = Path(os.path.realpath(written.parent)) / written.name
        written = place if written.name != ".." and place.is_relative_to(root) else target
    return written.relative_to(root), target.relative_to(root)


def is_left_out(parts: Sequence[str]) -> bool:
    """Tells whether a path relative to the working directory is never sent.

    That is so for the working directory itself, for hidden files and folders, and for folders of results.
    """
    return not parts or parts[0] in LEFT_OUT or any(part[0] == "." or part in LEFT_OUT_ANYWHERE for part in parts)
