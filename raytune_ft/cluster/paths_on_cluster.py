"""What of an experiment's files a job finds on the cluster: sent with the job, or shared by every node."""

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

READ = ("base_model", "data.train", "data.validation", "data.test", "promotion.retention.text")
"""Settings that name what a job reads."""
FILES = tuple(key for key in READ if key != "base_model")
"""Those that are files and nothing else; a model may be a name on the hub."""
READ_AT_LOADING = ("search.space", "search.algorithm.file")
"""Likewise; the loaded experiment holds the files' contents in their place."""
WRITTEN = ("output_dir", "registry.path")
"""Settings that name directories which a job writes."""
_SQLITE = "sqlite:///"
LEFT_OUT = ("assets", "runs", "registry", "wandb", "outputs", "dist")
"""Folders of a working directory that hold what runs leave behind, or what is fetched: large, and never sent."""
LEFT_OUT_ANYWHERE = ("runs", "wandb")
"""Those of them that are left out further down too, where the other names are also a package's."""


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
        elif key not in WRITTEN and (inside := _sent_as(value, working_dir)):
            sent.append(Named(key, inside))
            if ".." in Path(value).parts:  # on the cluster there may be no such directory to go up from
                settings.append(f"{key}={inside}")
        elif key in FILES and not path.exists():
            what = f"no file {value} in {working_dir}, so the job would not have it"
            raise InputError(key, what, "give its path from there, or an absolute one that every node sees")
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


def _sent_as(value: str, working_dir: Path) -> Path | None:
    """The name that a job finds it under, where it is there, inside the working directory, and in none of the folders
    left out; a link is also what it leads to."""
    names = names_inside(Path(value), working_dir)
    return None if names is None or any(is_left_out(each.parts) for each in names) else names[0]


def names_inside(path: Path, working_dir: Path) -> tuple[Path, Path] | None:
    """The names of what is there, relative to the working directory: as written, and with all links followed.

    Where it is written with `..`, which goes up from where a link leads to, or from elsewhere, the first has the links
    of its folder followed. None where there is no such file or directory inside the working directory.
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
    """Whether a path relative to the working directory is all of it, is a hidden one, or lies in a folder of results or
    in a hidden one."""
    return not parts or parts[0] in LEFT_OUT or any(part[0] == "." or part in LEFT_OUT_ANYWHERE for part in parts)
