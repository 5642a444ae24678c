"""From files to Arrow with a manifest, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import raytune_ft.data.prepare as prepare_module
from raytune_ft.data.prepared import open_prepared
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.objectives.prepared import prepare


def rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [{"prompt": f"question {index}", "completion": " good"} for index in range(first, first + count)]


@pytest.fixture
def data(write_rows) -> dict[str, object]:
    return {
        "train": write_rows("train.jsonl", rows(20)),
        "validation": 0.2,
        "test": write_rows("test.jsonl", rows(5, 100)),
        "max_length": 32,
    }


def test_every_split_is_written_with_what_decided_it(experiment, data, tmp_path: Path, base_model: Path) -> None:
    from datasets import load_from_disk

    prepared = prepare(experiment(data), tmp_path / "run" / "data")
    assert prepared.sizes == {"train": 16, "validation": 4, "test": 5}
    manifest = json.loads((prepared.directory / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["form"] == "prompt_completion" and manifest["template_sha256"] is None
    assert manifest["base_model"] == str(base_model) and manifest["max_length"] == 32
    train = load_from_disk(str(prepared.split("train")))
    assert str(train.features["labels"].feature.dtype) == "int32"
    assert manifest["splits"]["train"]["tokens"] == sum(len(row["input_ids"]) for row in train)
    assert [json.loads(line) for line in prepared.test_rows.read_text().splitlines()] == rows(5, 100)
    assert [path.name for path in prepared.directory.parent.iterdir()] == ["data"]


def test_the_test_rows_stay_in_step_with_the_tokens(
    experiment, data, write_rows, tmp_path: Path, base_model: Path
) -> None:
    from datasets import load_from_disk
    from transformers import AutoTokenizer

    long = {"prompt": "question", "completion": " good" * 100}
    data["test"] = write_rows("test.jsonl", [*rows(2, 100), long, *rows(2, 102)])
    prepared = prepare(experiment(data), tmp_path / "data")
    assert any(line.startswith("test: 1 rows are left out") for line in prepared.warnings)
    kept = [json.loads(line) for line in prepared.test_rows.read_text().splitlines()]
    assert kept == rows(4, 100)
    tokenizer = AutoTokenizer.from_pretrained(base_model)
    for row, tokens in zip(kept, load_from_disk(str(prepared.split("test"))), strict=True):
        assert tokenizer.decode(tokens["input_ids"]) == row["prompt"] + row["completion"] + "<|im_end|>"


def test_the_test_rows_are_read_back_whole_whatever_line_breaks_they_hold(
    experiment, data, write_rows, tmp_path: Path
) -> None:
    odd = {"prompt": "a\u2028b\x85c\x0bd", "completion": "e\nf"}
    data["test"] = write_rows("test.jsonl", [odd, *rows(2, 100)])
    prepared = prepare(experiment(data), tmp_path / "data")
    assert [row.as_json() for row in prepared.read_test_rows()] == [odd, *rows(2, 100)]
    prepared.test_rows.write_text('{"prompt": "a"}\n')
    with pytest.raises(IntegrityError, match=r'a row is damaged \(has no "completion"'):
        prepared.read_test_rows()


def test_conversations_record_their_templates_hash(experiment, write_rows, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "good"}]
    lines = [{"messages": [*turns, {"role": "user", "content": str(index)}]} for index in range(10)]
    prepared = prepare(experiment({"train": write_rows("train.jsonl", lines), "format": "messages"}), tmp_path / "data")
    assert len(prepared.template_sha256 or "") == 64
    assert prepared.form == "messages"


def test_a_second_call_tokenises_nothing(experiment, data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare(experiment(data), tmp_path / "data")
    monkeypatch.setattr(prepare_module, "load_checked", lambda _: pytest.fail("read the data again"))
    assert prepare(experiment(data), tmp_path / "data") == first == open_prepared(tmp_path / "data")


@pytest.mark.parametrize(
    "change", [{"max_length": 31}, {"max_train_rows": 10}, {"validation": 0.3}, {"duplicates": "remove"}]
)
def test_other_settings_are_another_fingerprint(experiment, data, tmp_path: Path, change: dict[str, object]) -> None:
    before = prepare(experiment(data), tmp_path / "data")
    after = prepare(experiment({**data, **change}), tmp_path / "data")
    assert after.fingerprint != before.fingerprint
    assert open_prepared(tmp_path / "data") == after


def test_the_fingerprint_follows_content_seed_and_loss_but_not_names(
    experiment, data, tmp_path: Path, write_rows
) -> None:
    first = prepare(experiment(data), tmp_path / "a").fingerprint
    moved = {**data, "train": write_rows("moved.jsonl", rows(20))}
    assert prepare(experiment(moved), tmp_path / "b").fingerprint == first
    edited = {**data, "train": write_rows("moved.jsonl", rows(21))}
    others = [
        experiment(edited),
        experiment(data, seed=1),
        experiment(data, objective={"type": "sft", "loss_on": "all"}),
    ]
    found = {prepare(other, tmp_path / f"c{index}").fingerprint for index, other in enumerate(others)}
    assert len(found | {first}) == 4


def test_an_error_when_nothing_is_left_to_train(experiment, data, write_rows, tmp_path: Path) -> None:
    lines = [{"prompt": "question", "completion": " good" * 100 + str(index)} for index in range(20)]
    data["train"] = write_rows("train.jsonl", lines)
    with pytest.raises(InputError, match=r"^data\.train: nothing trains: .* 16 rows .* max_length 32; raise data"):
        prepare(experiment(data), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_lost_tokens_are_counted(experiment, data, write_rows, tmp_path: Path) -> None:
    data["test"] = write_rows("test.jsonl", [{"prompt": "question " * 50, "completion": " good"}, *rows(3, 100)])
    warnings = prepare(experiment(data), tmp_path / "data").warnings
    assert "test: 1 rows lost tokens on the left to fit max_length 32" in warnings


def test_damaged_data_is_refused(experiment, data, tmp_path: Path) -> None:
    prepared = prepare(experiment(data), tmp_path / "data")
    arrow = next(prepared.split("train").glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[:-8])
    with pytest.raises(IntegrityError, match=r"\.arrow: has \d+ bytes, the manifest says"):
        open_prepared(tmp_path / "data")
    arrow.unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        prepare(experiment(data), tmp_path / "data")


def test_data_that_was_never_prepared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no prepared data here"):
        open_prepared(tmp_path / "data")


def test_files_of_someone_else_are_never_replaced(experiment, data, tmp_path: Path) -> None:
    precious = tmp_path / "data" / "thesis.tex"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(InputError, match="is in the way"):
        prepare(experiment(data), tmp_path / "data")
    assert precious.read_text() == "years of work"


def test_data_that_trials_were_trained_on_is_not_replaced(experiment, data, write_rows, tmp_path: Path) -> None:
    before = prepare(experiment(data), tmp_path / "data", in_use=True)
    write_rows("train.jsonl", rows(21))
    changed = r"^\S+: was started with other data \(changed: \S+train\.jsonl\); put it back, or change `name`$"
    with pytest.raises(InputError, match=changed):
        prepare(experiment(data), tmp_path / "data", in_use=True)
    assert open_prepared(tmp_path / "data") == before


def test_rows_of_another_encoding_are_made_anew_unless_trials_were_trained_on_them(
    experiment, data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raytune_ft.data.fingerprint.RECIPE", 1)
    monkeypatch.setattr(prepare_module, "RECIPE", 1)
    before = prepare(experiment(data), tmp_path / "data")
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"started by another version of raytune-ft, which encodes rows otherwise; go"):
        prepare(experiment(data), tmp_path / "data", in_use=True)
    assert open_prepared(tmp_path / "data") == before
    assert prepare(experiment(data), tmp_path / "data").fingerprint != before.fingerprint
