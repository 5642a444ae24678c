"""Finds how many tokens the training rows have: from prepared data, or by tokenising a sample of the rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from raytune_ft.config.experiment import Experiment
from raytune_ft.data.base_model import local_files
from raytune_ft.data.fingerprint import data_fingerprint
from raytune_ft.data.prepared import MANIFEST
from raytune_ft.data.rows import Row
from raytune_ft.data.sources.jsonl import read_rows
from raytune_ft.errors import InputError
from raytune_ft.objectives.rooms import room
from raytune_ft.paths import read_json

SAMPLE = 400
"""About how many rows are tokenised if the data is not prepared yet."""
TURN = 5
"""About how many tokens a chat template puts around a turn."""


@dataclass(frozen=True)
class RowLengths:
    """How many tokens the rows of the data have; a row may have several sequences, each with a pass of its own.

    Attributes:
        mean: Mean number of tokens of a sequence of the training rows.
        deviation: Standard deviation of the number of tokens.
        longest: Tokens of the longest sequence.
        answers: Mean number of tokens of a sequence that carry loss.
        validation_rows: How many rows each evaluation takes.
        validation_tokens: How many tokens these rows have together.
        exact: Whether tokens were counted in prepared data, and not estimated from a sample.
    """

    mean: float
    deviation: float
    longest: int
    answers: float
    validation_rows: int
    validation_tokens: int
    exact: bool
    sequences: int = 1
    """How many sequences a row has."""

    @property
    def of_row(self) -> float:
        """Mean number of tokens of a training row, over all its sequences."""
        return self.sequences * self.mean

    def of_batch(self, rows: int) -> float:
        """Returns about how many tokens the largest of many random batches of `rows` rows has."""
        count = rows * self.sequences
        spread = 2.5 * self.deviation * math.sqrt(count)
        return min(count * self.mean + spread, float(count * self.longest))

    def width(self) -> float:
        """Returns about the tokens of a batch's longest sequence: mean and two deviations, at most `longest`."""
        return min(self.mean + 2.0 * self.deviation, float(self.longest))


def row_lengths(experiment: Experiment) -> RowLengths | None:
    """Returns the row lengths of the experiment's data; None without both prepared data and a tokenizer file."""
    return (_prepared(experiment) or _sampled(experiment)) if experiment.trains_on_rows else None


def _prepared(experiment: Experiment) -> RowLengths | None:
    directory = experiment.run_directory.data
    path = directory / MANIFEST
    if not path.is_file():
        return None
    manifest = read_json(path)
    if manifest["fingerprint"] != data_fingerprint(experiment, local_files(experiment.base_model)):
        return None
    train = room(experiment.objective).lengths(directory / "train")
    validation = manifest["splits"]["validation"]
    return RowLengths(
        mean=float(train.tokens.mean()),
        deviation=float(train.tokens.std()),
        longest=int(train.tokens.max()),
        answers=float(train.with_loss.mean()),
        validation_rows=int(validation["rows"]),
        validation_tokens=int(validation["tokens"]),
        exact=True,
        sequences=experiment.objective.sequences,
    )


def _sampled(experiment: Experiment) -> RowLengths | None:
    tokenizer_file = local_files(experiment.base_model) / "tokenizer.json"
    if not tokenizer_file.is_file():
        return None
    from tokenizers import Tokenizer

    data = experiment.data
    rows = _good("data.train", data.train, experiment)
    if not rows:
        return None
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    sample = rows[:: max(1, len(rows) // SAMPLE)]
    pairs = [row.texts() for row in sample]
    prompts = tokenizer.encode_batch([prompt for prompt, _, _ in pairs], add_special_tokens=False)
    answers = tokenizer.encode_batch([answer for _, answer, _ in pairs], add_special_tokens=False)
    more = [turns * TURN + 1 for _, _, turns in pairs]
    counted = [len(answer.ids) + 1 for answer in answers]
    lengths = [
        min(len(prompt.ids) + answer + extra, data.max_length)
        for prompt, answer, extra in zip(prompts, counted, more, strict=True)
    ]
    held_out = _validation_rows(experiment, len(rows))
    everything, sequences = not experiment.objective.marks_answers, experiment.objective.sequences
    mean = statistics.fmean(lengths)
    return RowLengths(
        mean=mean,
        deviation=statistics.pstdev(lengths),
        longest=max(lengths),
        answers=mean if everything else min(mean, statistics.fmean(counted)),
        validation_rows=held_out,
        validation_tokens=round(held_out * sequences * mean),
        exact=False,
        sequences=sequences,
    )


def _good(key: str, path: str, experiment: Experiment) -> Sequence[Row]:
    try:
        return read_rows(key, Path(path), experiment.data.format)[0]
    except InputError:  # maybe a path of another machine; the checks of the data report it
        return ()


def _validation_rows(experiment: Experiment, train: int) -> int:
    validation = experiment.data.validation
    if isinstance(validation, str):
        rows = len(_good("data.validation", validation, experiment))
    else:
        rows = max(1, round(train * validation))
    return min(rows, experiment.data.max_validation_rows or rows)
