"""Faults 20, 21 and 22: sizes, empty answers and duplicates."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.data.checks import check_data, largest_batch, load_checked
from raytune_ft.data.duplicates import count_duplicates, remove_duplicates
from raytune_ft.data.formats.choose import parse_row
from raytune_ft.data.split import cut_validation, draw
from raytune_ft.errors import InputError


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"question {index}", "completion": " yes"} for index in range(first, first + count)]


def test_an_empty_file_is_named_with_its_split(experiment, write_rows) -> None:
    data = {"train": write_rows("train.jsonl", rows(8)), "test": write_rows("test.jsonl", [])}
    with pytest.raises(InputError, match=r"^data\.test: .*test\.jsonl is empty: the split test has 0 rows; "):
        check_data(experiment(data))


def test_a_train_split_below_one_batch_is_named_with_its_size(experiment, write_rows) -> None:
    data = {"train": write_rows("train.jsonl", rows(8)), "validation": write_rows("validation.jsonl", rows(3, 50))}
    asked = experiment(data, train={"per_device_train_batch_size": 5}, resources={"workers": 2})
    with pytest.raises(InputError, match=r"^data\.train: the split train has 8 rows, fewer than one batch of 10"):
        check_data(asked)


def test_the_largest_searched_batch_counts(experiment, write_rows) -> None:
    space = {"parameters": {"train.per_device_train_batch_size": {"choice": [4, 16, 8]}}}
    asked = experiment({"train": write_rows("train.jsonl", rows(40))}, search={"space": space})
    assert largest_batch(asked) == 16


def test_one_row_can_not_be_split(experiment, write_rows) -> None:
    with pytest.raises(InputError, match=r"^data\.train: the split train has 0 rows left"):
        check_data(experiment({"train": write_rows("train.jsonl", rows(1))}))


def test_bad_lines_of_all_files_are_shown_together(experiment, write_rows) -> None:
    data = {"train": write_rows("train.jsonl", [*rows(4), "{"]), "test": write_rows("test.jsonl", ["null"])}
    with pytest.raises(InputError) as caught:
        check_data(experiment(data))
    first, second = str(caught.value).splitlines()
    assert "train.jsonl:5: bad JSON" in first
    assert "test.jsonl:1: is null" in second


def test_empty_answers_are_left_out_and_counted_with_their_lines(experiment, write_rows) -> None:
    empty = {"prompt": "question", "completion": " "}
    data = {"train": write_rows("train.jsonl", [*rows(3), empty, *rows(5, 3), empty])}
    summary = check_data(experiment(data))
    assert sum(summary.rows.values()) == 8
    assert any("2 rows" in line and "empty answer" in line and "lines 4, 10" in line for line in summary.warnings)


def test_a_file_of_empty_answers_only_is_refused(experiment, write_rows) -> None:
    data = {"train": write_rows("train.jsonl", [{"prompt": "a", "completion": ""}] * 8)}
    with pytest.raises(InputError, match=r"each of the 8 rows of .* has an empty answer"):
        check_data(experiment(data))


def test_duplicates_are_counted_within_and_across_splits_and_warned_of(experiment, write_rows) -> None:
    data = {
        "train": write_rows("train.jsonl", [*rows(6), *rows(2)]),
        "validation": write_rows("validation.jsonl", rows(3, 5)),
        "test": write_rows("test.jsonl", rows(3, 4)),
    }
    summary = check_data(experiment(data))
    assert summary.duplicates == {"train": 2, "train/validation": 1, "train/test": 2, "validation/test": 2}
    assert summary.rows == {"train": 8, "validation": 3, "test": 3}
    assert any(line.startswith("train: 2 rows stand in test too, which flatters") for line in summary.warnings)


def test_duplicates_are_taken_out_of_the_earlier_split_on_request(experiment, write_rows) -> None:
    data = {
        "train": write_rows("train.jsonl", [*rows(6), *rows(2)]),
        "validation": write_rows("validation.jsonl", rows(4, 5)),
        "test": write_rows("test.jsonl", rows(3, 4)),
        "duplicates": "remove",
    }
    checked = load_checked(experiment(data))
    prompts = {split.name: [row.as_json()["prompt"] for row in split.rows] for split in checked.splits}
    assert prompts["train"] == [f"question {index}" for index in range(4)]
    assert prompts["validation"] == ["question 7", "question 8"]
    assert prompts["test"] == ["question 4", "question 5", "question 6"]
    assert {split.name: split.removed for split in checked.splits} == {"train": 4, "validation": 2, "test": 0}
    assert "train: 2 rows stand in test too; removed from train" in checked.warnings


def test_a_split_emptied_by_removal_is_refused(experiment, write_rows) -> None:
    data = {"train": write_rows("train.jsonl", rows(8)), "validation": write_rows("validation.jsonl", rows(2))}
    data["test"] = write_rows("test.jsonl", rows(4))
    with pytest.raises(InputError, match=r"^data\.validation: the split validation has 0 rows left"):
        check_data(experiment({**data, "duplicates": "remove"}))


def test_one_file_for_two_splits_is_refused(experiment, write_rows) -> None:
    path = write_rows("train.jsonl", rows(8))
    with pytest.raises(InputError, match=r"^data\.test: .* is data\.train too"):
        check_data(experiment({"train": path, "test": path}))


def test_the_seed_alone_decides_splits_and_draws(experiment, write_rows) -> None:
    data = {"train": write_rows("train.jsonl", rows(100)), "validation": 0.2, "max_train_rows": 30}
    first, again, other = (load_checked(experiment(data, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first.splits[0].rows != other.splits[0].rows
    train, validation = (set(split.rows) for split in first.splits)
    assert (len(train), len(validation)) == (30, 20)
    assert not train & validation
    unlimited = load_checked(experiment({**data, "max_train_rows": None}, seed=1))
    assert unlimited.splits[1].rows == first.splits[1].rows  # a limit on train does not move the validation rows


def test_ten_thousand_lines_are_checked_within_half_a_second(experiment, write_rows) -> None:
    sentence = "a sentence of ordinary length that somebody wrote about something else " * 2
    lines = [{"prompt": f"{sentence}{index}", "completion": " yes"} for index in range(10_000)]
    asked = experiment({"train": write_rows("train.jsonl", lines)})
    started = time.process_time()
    check_data(asked)
    assert time.process_time() - started < 0.5


def test_checking_imports_no_heavy_library(tmp_path: Path) -> None:
    program = (
        "import sys; import raytune_ft.data.checks, raytune_ft.data.base_model; "
        "print(sorted({'torch', 'transformers', 'datasets', 'ray', 'huggingface_hub'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


def test_a_test_answer_that_is_no_label_is_named_with_its_line(experiment, write_rows) -> None:
    odd = [*rows(3, 50), {"prompt": "question 60", "completion": " maybe"}]
    data = {"train": write_rows("train.jsonl", rows(8)), "test": write_rows("test.jsonl", odd)}
    labels = {"metrics": ["accuracy"], "labels": [" yes", " no"]}
    with pytest.raises(InputError, match=r"test\.jsonl:4: answer ' maybe' is none of evaluate\.labels"):
        check_data(experiment(data, evaluate=labels))
    check_data(experiment(data, evaluate={**labels, "labels": [" yes", " maybe"]}))


def preferences(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"question {at}", "chosen": " yes", "rejected": " no"} for at in range(first, first + count)]


def test_preferences_are_not_compared_with_labels(experiment, write_rows) -> None:
    data = {
        "train": write_rows("train.jsonl", preferences(8)), "test": write_rows("test.jsonl", preferences(2, 50)),
        "format": "preference",
    }  # fmt: skip
    asked = experiment(data, evaluate={"metrics": ["loss", "accuracy"], "labels": [" yes", " no"]})
    with pytest.raises(InputError, match=r"^evaluate\.labels: .* has two of its own; leave labels out$"):
        check_data(asked)


def test_preferences_are_told_apart_by_both_answers() -> None:
    one, other = preferences(2)
    swapped = {**one, "chosen": one["rejected"], "rejected": one["chosen"]}
    train = [parse_row(value, at, DataFormat.preference) for at, value in enumerate((one, one, swapped, other))]
    splits = {"train": train, "test": [parse_row(other, 1, DataFormat.preference)]}
    assert count_duplicates(splits) == {"train": 1, "train/test": 1}
    assert [row.line for row in remove_duplicates(splits)["train"]] == [0, 2]
    kept, held_out = cut_validation(train, 0.5, seed=0)
    assert len(kept) == len(held_out) == 2 and len(draw(train, 3, 0, "train")) == 3
