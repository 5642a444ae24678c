"""The file that `init` writes is one that `check` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raytune_ft.config.load import load_experiment
from raytune_ft.config.methods.choice import METHODS
from raytune_ft.config.methods.full import Full
from raytune_ft.config.objectives.choice import OBJECTIVES
from raytune_ft.config.search.portfolio import portfolio_warnings
from raytune_ft.config.starter import text
from raytune_ft.config.starter.model_size import billions, size_of
from raytune_ft.config.starter.starter import write_starter
from raytune_ft.errors import InputError

PAIR = {"prompt": "2 + 2 =", "completion": " 4"}
USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
CHAT = {"messages": [USER, ANSWER]}


def rows(path: Path, row: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "directory",
    [
        "plain",
        "with space",
        "it's",
        'say "hi"',
        "a #b",
        "a: b",
        "dätä 数据",
        "{x}",
        "%s",
        "- a",
        "1e5",
        "a\\b",
        "*x",
        "x" * 200,
    ],
)
def test_a_starter_loads_whatever_the_paths_are_called(tmp_path: Path, directory: str) -> None:
    train = rows(tmp_path / directory / "my train.jsonl", PAIR)
    test = rows(tmp_path / directory / "test.jsonl", PAIR)
    base = str(tmp_path / directory / "base")
    write_starter(tmp_path / "experiment.yaml", name=None, base_model=base, train=train, test=test)
    experiment = load_experiment(tmp_path / "experiment.yaml")
    assert (experiment.base_model, experiment.data.train, experiment.data.test) == (base, str(train), str(test))
    assert experiment.name == "my-train"
    assert experiment.search.trials == 16


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("2024.jsonl", "2024"),
        ("1e5.jsonl", "1e5"),
        ("true.jsonl", "true"),
        ("null.jsonl", "null"),
        ("Reviews v2 (final).jsonl", "reviews-v2-final"),
        ("数据.jsonl", "experiment"),
        ("x" * 200 + ".jsonl", "x" * 64),
        ("a.train.jsonl", "a"),
    ],
)
def test_the_name_comes_from_the_file_and_follows_the_rule(tmp_path: Path, file: str, name: str) -> None:
    train = rows(tmp_path / file, PAIR)
    write_starter(tmp_path / "e.yaml", name=None, base_model="org/model", train=train, test=None)
    assert load_experiment(tmp_path / "e.yaml").name == name


def test_the_form_of_the_first_row_is_taken(tmp_path: Path) -> None:
    preference = {"chosen": "Is it? yes", "rejected": "Is it? no"}
    preference_chat = {"prompt": [USER], "chosen": [ANSWER], "rejected": [{**ANSWER, "content": "no"}]}
    for form, row in (
        ("prompt_completion", PAIR), ("messages", CHAT),
        ("preference", preference), ("preference_messages", preference_chat),
    ):  # fmt: skip
        train = rows(tmp_path / f"{form}.jsonl", row)
        write_starter(tmp_path / f"{form}.yaml", name="mine", base_model="b", train=train, test=None)
        experiment = load_experiment(tmp_path / f"{form}.yaml")
        assert (experiment.name, experiment.data.format, experiment.data.test) == ("mine", form, None)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    train, to = rows(tmp_path / "t.jsonl", PAIR), tmp_path / "e.yaml"
    to.write_text("precious")
    with pytest.raises(InputError, match=r"e\.yaml: already exists; give another file with --to"):
        write_starter(to, name=None, base_model="b", train=train, test=None)
    assert to.read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "t.jsonl:1: is not a JSON object"),
        ("not json\n", "t.jsonl:1: is not a JSON object"),
        ("[1]\n", "t.jsonl:1: has list, no known format"),
        ('{"text": "x"}\n', "t.jsonl:1: has ['text'], no known format"),
    ],
)
def test_data_of_no_known_form_is_refused_and_nothing_is_written(tmp_path: Path, content: str, message: str) -> None:
    train, to = tmp_path / "t.jsonl", tmp_path / "e.yaml"
    train.write_text(content)
    with pytest.raises(InputError) as caught:
        write_starter(to, name=None, base_model="b", train=train, test=None)
    assert message in str(caught.value) and not to.exists()


def test_missing_data_and_a_bad_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl: no such file"):
        write_starter(tmp_path / "e.yaml", name=None, base_model="b", train=tmp_path / "nowhere.jsonl", test=None)
    train = rows(tmp_path / "t.jsonl", PAIR)
    with pytest.raises(InputError, match=r"--name: '\.\./x' is not a valid name"):
        write_starter(tmp_path / "e.yaml", name="../x", base_model="b", train=train, test=None)


@pytest.mark.parametrize(
    ("base", "size"),
    [
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "small"),
        ("Qwen/Qwen2.5-0.5B", "small"),
        ("meta-llama/Llama-3.2-1B", "1b_4b"),
        ("Qwen/Qwen3-4B-Instruct-2507", "1b_4b"),
        ("mistralai/Mistral-7B-v0.3", "7b_8b"),
        ("meta-llama/Llama-3.1-8B", "7b_8b"),
        ("meta-llama/Llama-3.3-70B-Instruct", "13b_70b"),
        ("Qwen/Qwen3-30B-A3B", "13b_70b"),
        ("Qwen/Qwen3-235B-A22B", None),
        ("mistralai/Mixtral-8x7B-v0.1", None),
        ("models/base", None),
    ],
)
def test_a_model_gets_the_space_of_its_size_where_its_name_tells_it(
    base: str, size: str | None, tmp_path: Path
) -> None:
    assert size_of(base) == size
    train = rows(tmp_path / "t.jsonl", PAIR)
    write_starter(tmp_path / "e.yaml", name=None, base_model=base, train=train, test=None)
    search = load_experiment(tmp_path / "e.yaml").search
    assert search.algorithm.type == ("portfolio" if size == "small" else "tpe")
    assert bool(search.space.start_from) != (size == "small")  # a small model's portfolio comes first

    write_starter(tmp_path / "full.yaml", name=None, base_model=base, train=train, test=None, method="full")
    full = load_experiment(tmp_path / "full.yaml")
    assert full.method == Full() and full.search.algorithm.type == "tpe"
    highest = [
        each.search.space.parameters["train.learning_rate"].bounds[1]
        for each in (full, load_experiment(tmp_path / "e.yaml"))
    ]
    assert 0.05 < highest[0] / highest[1] <= 0.1, "the rule of ten"


def test_the_size_of_a_model_directory_is_that_of_its_weights(tmp_path: Path) -> None:
    base = tmp_path / "qwen-7b"
    base.mkdir()
    with (base / "model.safetensors").open("wb") as stream:
        stream.truncate(3 * 10**9)  # sparse
    assert billions(str(base)) == 1.5
    (base / "config.json").write_text('{"dtype": "float32"}')
    assert billions(str(base)) == 0.75


def test_the_starter_of_a_small_model_takes_the_portfolio_as_it_is(tmp_path: Path) -> None:
    """A configuration that had to be moved into the space would be another one than was tried."""
    train = rows(tmp_path / "t.jsonl", PAIR)
    write_starter(tmp_path / "e.yaml", name=None, base_model="SmolLM2-360M", train=train, test=None)
    assert portfolio_warnings(load_experiment(tmp_path / "e.yaml")) == []


def test_each_objective_that_takes_rows_can_be_written_and_one_that_does_not_take_these_is_refused(
    tmp_path: Path,
) -> None:
    taking = {name for name, facts in OBJECTIVES.items() if facts.rows}
    assert set(text.OBJECTIVES) == set(text.EVALUATE) == taking
    data = {"answer": PAIR, "preference": {"prompt": "a", "chosen": " b", "rejected": " c"}}
    for name in taking:
        train = rows(tmp_path / f"{name}.jsonl", data[OBJECTIVES[name].rows])
        for method in METHODS:
            file = tmp_path / f"{name}-{method}.yaml"
            write_starter(
                file, name=None, base_model="org/model", train=train, test=None, method=method, objective=name
            )
            written = load_experiment(file)
            assert (written.objective.type, written.method.type) == (name, method)
    with pytest.raises(InputError, match=r"--objective: 'dpo' does not take the rows of .*; use sft"):
        write_starter(
            tmp_path / "no.yaml", name=None, base_model="m", train=rows(tmp_path / "t.jsonl", PAIR), test=None,
            objective="dpo",
        )  # fmt: skip
