"""Reads, checks and tokenises the data once per study, into Arrow files that every worker maps into memory."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raytune_ft.config.experiment import Experiment
from raytune_ft.data.bad_rows import BadRows, raise_bad_rows
from raytune_ft.data.base_model import local_files
from raytune_ft.data.checks import CheckedSplit, check_sizes, load_checked
from raytune_ft.data.fingerprint import RECIPE, data_fingerprint, source_hashes
from raytune_ft.data.prepared import MANIFEST, SCHEMA, TEST_ROWS, PreparedData, open_prepared
from raytune_ft.data.rows import Row
from raytune_ft.data.tokens.labels import LabelReader, check_labels, read_labels
from raytune_ft.data.tokens.template import ChatTemplate
from raytune_ft.data.tokens.tokenize import BATCH_ROWS, RowTokeniser, TokenisedRow
from raytune_ft.data.tokens.tokenizer import load_tokenizer
from raytune_ft.errors import InputError
from raytune_ft.paths import read_json, rename_into_place, write_json

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PreparedData", "open_prepared", "prepare"]


@dataclass
class _Tokenised:
    """One split while it is tokenised."""

    split: CheckedSplit
    rows: list[Row] = field(default_factory=list)
    tables: list[pa.Table] = field(default_factory=list)
    tokens: int = 0
    cut: int = 0
    dropped: int = 0


def prepare(experiment: Experiment, target: Path, *, in_use: bool = False) -> PreparedData:
    """Tokenises all splits into `target`, or opens `target` if it already holds the same data.

    Args:
        experiment: The experiment, which names the data and the model.
        target: Directory to create; other data in it is replaced.
        in_use: Trials were trained on the data in `target`, so that other data is refused instead of replacing it.

    Raises:
        InputError: The data is wrong (all bad lines are shown), or nothing is left to train on.
        IntegrityError: `target` holds the right data, but damaged.
    """
    fingerprint = data_fingerprint(experiment, local_files(experiment.base_model))
    if (target / MANIFEST).is_file():
        found = open_prepared(target)
        if found.fingerprint == fingerprint:
            _check_other_labels(experiment, found)
            return found
        if in_use:
            raise _changed(experiment, target)
    elif target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            str(target), "is in the way and holds no prepared data", "move it, or choose another output_dir"
        )
    checked = load_checked(experiment)
    tokenizer = load_tokenizer(experiment.base_model, experiment.trust_remote_code)
    template = ChatTemplate(tokenizer) if experiment.data.format.chat else None
    loss_on_all = experiment.objective.loss_on == "all"
    tokeniser = RowTokeniser(tokenizer, template, experiment.data.max_length, loss_on_all)
    bad_rows = {split.source: BadRows(Path(split.source)) for split in checked.splits}
    tokenised = [_tokenise(split, tokeniser, bad_rows[split.source]) for split in checked.splits]
    labels = experiment.evaluate.labels
    for each in tokenised if labels else []:
        if each.split.name == "test":
            check_labels(LabelReader(tokenizer, template, labels), each.rows, bad_rows[each.split.source])
    raise_bad_rows(list(bad_rows.values()))
    _check_left(experiment, tokenised)
    warnings = [*checked.warnings, *_warnings(experiment, tokenised)]
    sources = source_hashes(experiment)
    manifest = {
        "schema": SCHEMA,
        "recipe": RECIPE,
        "fingerprint": fingerprint,
        "form": experiment.data.format.value,
        "template_sha256": template.sha256 if template else None,
        "labels": labels,
        "base_model": experiment.base_model,
        "max_length": experiment.data.max_length,
        "splits": {
            each.split.name: _summary(each, sources.get(each.split.name, sources["train"])) for each in tokenised
        },
        "duplicates": checked.duplicates,
        "warnings": warnings,
    }
    _write(tokenised, manifest, target)
    return open_prepared(target)


def _check_other_labels(experiment: Experiment, found: PreparedData) -> None:
    """Checks changed labels against prepared rows; raises InputError if they don't fit.

    Labels do not affect the tokens, so the rows are not tokenised again for other labels.
    """
    labels = experiment.evaluate.labels
    if not labels or "test" not in found.sizes or read_json(found.directory / MANIFEST).get("labels") == labels:
        return
    tokenizer = load_tokenizer(experiment.base_model, experiment.trust_remote_code)
    read_labels(tokenizer, labels, found)


def _changed(experiment: Experiment, target: Path) -> InputError:
    """Returns the error that names which source has changed since the run's trials were trained on it."""
    manifest, now = read_json(target / MANIFEST), source_hashes(experiment)
    if manifest.get("recipe", 1) != RECIPE:
        what = "was started by another version of raytune-ft, which encodes rows otherwise"
        return InputError(str(target.parent), what, "go on with that version, or change `name`")
    before = manifest["splits"]
    files = [before[name]["source"] for name, sha256 in now.items() if before[name]["sha256"] != sha256]
    what = f"was started with other data (changed: {', '.join(files) or 'the tokenizer of the base model'})"
    return InputError(str(target.parent), what, "put it back, or change `name`")


def _tokenise(split: CheckedSplit, tokeniser: RowTokeniser, bad_rows: BadRows) -> _Tokenised:
    result = _Tokenised(split)
    pending: list[TokenisedRow] = []
    for row, tokens in tokeniser.rows(split.rows, bad_rows):
        if tokens is None:
            result.dropped += 1
            continue
        result.rows.append(row)
        result.tokens += len(tokens.input_ids)
        result.cut += tokens.cut
        pending.append(tokens)
        if len(pending) == BATCH_ROWS:  # a token takes 8 bytes in Arrow but 72 as Python integers
            result.tables.append(_table(pending))
            pending = []
    result.tables.append(_table(pending))
    return result


def _table(rows: list[TokenisedRow]) -> pa.Table:
    import pyarrow as pa

    column = pa.list_(pa.int32())
    ids = pa.array([row.input_ids for row in rows], column)
    return pa.table({"input_ids": ids, "labels": pa.array([row.labels for row in rows], column)})


def _check_left(experiment: Experiment, tokenised: list[_Tokenised]) -> None:
    length = experiment.data.max_length
    for each in tokenised:
        if not each.rows:
            what = f"nothing trains: no answer of the {each.dropped} rows fits behind its prompt in max_length {length}"
            raise InputError(f"data.{each.split.name}", what, "raise data.max_length")
    check_sizes(experiment, {each.split.name: len(each.rows) for each in tokenised})


def _warnings(experiment: Experiment, tokenised: list[_Tokenised]) -> list[str]:
    length, lines = experiment.data.max_length, []
    for each in tokenised:
        if each.cut:
            lines.append(f"{each.split.name}: {each.cut} rows lost tokens on the left to fit max_length {length}")
        if each.dropped:
            what = f"{each.dropped} rows are left out: their answer does not fit in max_length {length}"
            lines.append(f"{each.split.name}: {what}")
    return lines


def _summary(each: _Tokenised, sha256: str) -> dict[str, Any]:
    return {
        "rows": len(each.rows),
        "tokens": each.tokens,
        "source": each.split.source,
        "sha256": sha256,
        "dropped": each.dropped + each.split.empty_answers,
        "empty_answers": each.split.empty_answers,
        "cut": each.cut,
        "duplicates_removed": each.split.removed,
    }


def _write(tokenised: list[_Tokenised], manifest: dict[str, Any], target: Path) -> None:
    """Writes to a temporary directory and renames it, so that `target` holds the old or the complete new data."""
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as scratch:
        aside = Path(scratch) / "new"
        for each in tokenised:
            Dataset(pa.concat_tables(each.tables)).save_to_disk(aside / each.split.name)
            if each.split.name == "test":
                with (aside / TEST_ROWS).open("w", encoding="utf-8") as stream:
                    stream.writelines(json.dumps(row.as_json(), ensure_ascii=False) + "\n" for row in each.rows)
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        for path in files:
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        sizes = {path.relative_to(aside).as_posix(): path.stat().st_size for path in files}
        write_json(aside / MANIFEST, {**manifest, "files": sizes})
        if target.exists():
            os.replace(target, Path(scratch) / "old")
        rename_into_place(aside, target)
