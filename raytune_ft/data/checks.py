"""Checks every line of every split before anything is started, without torch or transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.data import DataConfig, Duplicates
from raytune_ft.config.experiment import Experiment
from raytune_ft.data.bad_rows import BadRows, raise_bad_rows
from raytune_ft.data.duplicates import count_duplicates, remove_duplicates
from raytune_ft.data.rows import Row
from raytune_ft.data.sources.jsonl import read_rows
from raytune_ft.data.split import cut_validation, draw
from raytune_ft.data.tokens.near_labels import label_remedy
from raytune_ft.errors import InputError


@dataclass(frozen=True)
class CheckedSplit:
    """The good rows of one split."""

    name: str
    source: str
    """The split's file; for a validation split that is cut off from train, train's file."""
    rows: list[Row]
    empty_answers: int
    """Number of rows left out because their answer is empty."""
    removed: int
    """Number of rows left out as duplicates."""


@dataclass(frozen=True)
class CheckedData:
    """The checked rows of all splits, ready to be tokenised."""

    splits: tuple[CheckedSplit, ...]
    duplicates: dict[str, int]
    """`train` -> repeats within it, `train/test` -> rows of train that are in test too, ...; before any removal."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DataSummary:
    """The summary of the data that `raytune-ft check` shows."""

    rows: dict[str, int]
    """Split -> number of rows that will be used."""
    duplicates: dict[str, int]
    warnings: tuple[str, ...]


def check_data(experiment: Experiment) -> DataSummary:
    """Reads and checks all splits.

    Raises:
        InputError: A file is missing, lines are bad, a split is empty or smaller than a batch.
    """
    if not experiment.trains_on_rows:
        return DataSummary({}, {}, ())
    checked = load_checked(experiment)
    rows = {split.name: len(split.rows) for split in checked.splits}
    return DataSummary(rows, checked.duplicates, checked.warnings)


def load_checked(experiment: Experiment) -> CheckedData:
    """Reads, checks and splits the files; returns the rows that `prepare` tokenises, and raises as `check_data`."""
    config, seed = experiment.data, experiment.seed
    sources = split_sources(config)
    read: dict[str, list[Row]] = {}
    empty_answers: dict[str, int] = {}
    warnings: list[str] = []
    bad_rows: list[BadRows] = []
    for name, path in sources.items():
        rows, bad = read_rows(f"data.{name}", path, config.format)
        bad_rows.append(bad)
        if not rows and not bad.count:
            raise InputError(f"data.{name}", f"{path} is empty: the split {name} has 0 rows", "give a file with rows")
        empty = [row.line for row in rows if not row.has_answer()]
        if empty and len(empty) == len(rows) and not bad.count:
            raise InputError(
                f"data.{name}", f"each of the {len(rows)} rows of {path} has an empty answer", "add answers"
            )
        if empty:
            warnings.append(_empty_warning(name, path, empty))
        read[name], empty_answers[name] = [row for row in rows if row.has_answer()], len(empty)
    raise_bad_rows(bad_rows)
    _check_labels(experiment, read, sources)
    if isinstance(config.validation, float):
        read["train"], cut = cut_validation(read["train"], config.validation, seed)
        read = {"train": read["train"], "validation": cut, **{k: v for k, v in read.items() if k != "train"}}
    duplicates = count_duplicates(read)
    kept = remove_duplicates(read) if config.duplicates is Duplicates.remove else read
    warnings += duplicate_warnings(duplicates, config.duplicates)
    limits = {"train": config.max_train_rows, "validation": config.max_validation_rows, "test": config.max_test_rows}
    splits = tuple(
        CheckedSplit(
            name,
            str(sources.get(name, sources["train"])),
            draw(kept[name], limits[name], seed, name),
            empty_answers.get(name, 0),
            len(read[name]) - len(kept[name]),
        )
        for name in read
    )
    check_sizes(experiment, {split.name: len(split.rows) for split in splits})
    return CheckedData(splits, duplicates, tuple(warnings))


def _check_labels(experiment: Experiment, read: dict[str, list[Row]], sources: dict[str, Path]) -> None:
    """Raises InputError if a test row's last answer begins with none of `evaluate.labels`, so that it can't be scored.

    Whether its tokens do, as the chat template writes the answer, is checked when rows are tokenised.
    """
    labels, form = tuple(experiment.evaluate.labels), experiment.data.format
    if labels and form.rows == "preference":
        what = f"{list(labels)} are a closed set of answers, and a row of format {form} has two of its own"
        raise InputError("evaluate.labels", what, "leave labels out")
    for row in read.get("test", []) if labels else []:
        answer = row.answer
        if form.chat:  # chat templates trim the content
            found = answer.strip().startswith(tuple(label.strip() for label in labels))
        else:
            found = answer.startswith(labels)
        if not found:
            shown = answer if len(answer) <= 40 else answer[:37] + "..."
            where = f"{sources['test']}:{row.line}"
            what = f"answer {shown!r} is none of evaluate.labels {list(labels)}"
            raise InputError(where, what, label_remedy(answer, labels))


def split_sources(config: DataConfig) -> dict[str, Path]:
    """Returns the file of each split that has one, train first; raises InputError if two splits have the same file."""
    given = {"train": config.train, "validation": config.validation, "test": config.test}
    paths = {name: Path(value).expanduser() for name, value in given.items() if isinstance(value, str)}
    seen: dict[Path, str] = {}
    for name, path in paths.items():
        other = seen.setdefault(path.resolve(), name)
        if other != name:
            remedy = "hold rows back, or give a fraction as data.validation"
            raise InputError(f"data.{name}", f"{path} is data.{other} too, so it would prove nothing", remedy)
    return paths


def check_sizes(experiment: Experiment, sizes: dict[str, int]) -> None:
    """Raises InputError if a split has no rows, or train has less than one batch for each worker."""
    for name, size in sizes.items():
        if not size:
            raise InputError(f"data.{name}", f"the split {name} has 0 rows left", "give more rows")
    batch = largest_batch(experiment)
    if sizes["train"] < batch:
        what = f"the split train has {sizes['train']} rows, fewer than one batch of {batch} over all workers"
        raise InputError("data.train", what, "give more rows or lower train.per_device_train_batch_size")


def largest_batch(experiment: Experiment) -> int:
    """Returns the rows of one forward pass over all workers for the largest batch size in the search space."""
    per_device = experiment.train.per_device_train_batch_size
    searched = (
        experiment.search.space.parameters.get("train.per_device_train_batch_size") if experiment.search else None
    )
    if searched is not None:
        per_device = max(int(value) for value in searched.extremes())
    return per_device * experiment.resources.workers


def duplicate_warnings(counts: dict[str, int], mode: Duplicates) -> list[str]:
    """Returns one line for each place where rows repeat."""
    lines = []
    for place, count in counts.items():
        earlier, _, later = place.partition("/")
        what = f"{count} row{'s' if count > 1 else ''}" + (f" stand in {later} too" if later else " repeat within it")
        if mode is Duplicates.remove and place != "test":
            lines.append(f"{earlier}: {what}; removed from {earlier}")
        elif later:
            lines.append(
                f"{earlier}: {what}, which flatters results; data.duplicates: remove takes them out of {earlier}"
            )
        else:
            lines.append(f"{earlier}: {what}")
    return lines


def _empty_warning(name: str, path: Path, lines: list[int]) -> str:
    shown = ", ".join(str(line) for line in lines[:10]) + (", ..." if len(lines) > 10 else "")
    return f"{name}: {len(lines)} rows of {path} have an empty answer and are left out (lines {shown})"
