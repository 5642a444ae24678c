"""Data, metrics and space have to fit the objective; each refusal is one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.config.objectives.custom import Custom
from raytune_ft.config.objectives.dpo import Dpo

SFT = "objective: {type: sft, loss_on: completion}"
FORMAT = "  test: test.jsonl\n"
CUSTOM = "objective: {type: custom, trainer: %s, metrics: {score: max}, settings: {width: 3}}"
RATE = "parameters: {train.learning_rate: {loguniform: [1e-6, 1e-4]}}\n"
WIDTHS = "parameters: {objective.settings.width: {choice: [2, 3]}}\n"
TRAINER = "def train(settings, data, report, checkpoint): ...\n"


def data(form: str) -> tuple[str, str]:
    return FORMAT, f"{FORMAT}  format: {form}\n"


def evaluate(metrics: str) -> tuple[str, str]:
    return "search:\n", f"evaluate: {metrics}\nsearch:\n"


@pytest.mark.parametrize("form", ["preference", "preference_messages"])
def test_supervised_fine_tuning_takes_one_answer_a_row_and_dpo_two(load, problem, form: str) -> None:
    takes = " or ".join(each for each in DataFormat if each.rows == "answer")
    assert problem(data(form)) == (
        f"experiment.yaml:6: data.format: {form} has rows with a chosen and a rejected answer, and objective sft takes "
        f"rows with one answer; use {takes}, or another objective.type"
    )
    assert load((SFT, "objective: {type: dpo}"), data(form)).objective == Dpo()


@pytest.mark.parametrize("form", ["messages", "prompt_completion"])
def test_dpo_takes_no_single_answers(load, problem, form: str) -> None:
    assert problem((SFT, "objective: {type: dpo}"), data(form)) == (
        f"experiment.yaml:6: data.format: {form} has rows with one answer, and objective dpo takes rows with a chosen "
        "and a rejected answer; use preference or preference_messages, or another objective.type"
    )
    assert load(data(form)).data.format == form


def test_a_metric_is_one_that_can_be_made_of_the_objectives_rows(load, problem) -> None:
    assert problem(evaluate("{metrics: [loss, preference_accuracy]}")) == (
        "experiment.yaml:13: evaluate.metrics: preference_accuracy can't be made of the rows of objective sft; "
        "use loss, accuracy, macro_f1, weighted_f1"
    )
    wrong = problem((SFT, "objective: {type: dpo}"), evaluate('{metrics: [accuracy], labels: [" yes", " no"]}'))
    assert wrong == (
        "experiment.yaml:13: evaluate.metrics: accuracy can't be made of the rows of objective dpo; "
        "use preference_accuracy, loss"
    )
    assert load((SFT, "objective: {type: dpo}"), evaluate("{metrics: [loss]}")).evaluate.metrics == ["loss"]


@pytest.fixture
def trainer(tmp_path: Path):
    """Writes the trainer's file, and returns the change of the experiment that names it."""

    def write(content: str | bytes = TRAINER, name: str = "mine.py:train") -> tuple[str, str]:
        (tmp_path / "mine.py").write_bytes(content if isinstance(content, bytes) else content.encode())
        return SFT, CUSTOM % name

    return write


@pytest.mark.parametrize(
    "content",
    [
        TRAINER,
        "def train(settings, data, report, checkpoint, more=1): ...\n",
        "def train(settings, /, data, report, checkpoint): ...\n",
        "def train(*arguments): ...\n",
        f"def train(settings): ...\n{TRAINER}",
    ],
)
def test_a_trainer_that_takes_four_arguments_is_taken_and_not_run(load, trainer, content: str) -> None:
    objective = load(trainer(f"{content}raise SystemExit\n"), space=WIDTHS).objective
    assert isinstance(objective, Custom) and (objective.file, objective.function) == ("mine.py", "train")


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (TRAINER, "gone.py:train", "no file gone.py; paths are relative to the working directory"),
        (TRAINER, "mine.py:learn", "mine.py has no function learn; name one that it defines at its top"),
        (f"class C:\n    {TRAINER}", "mine.py:train", "mine.py has no function train; name one that it defines"),
        ("def train(settings, data): ...\n", "mine.py:train", "train takes 2 arguments; write it as train(settings"),
        ("def train(settings, /, data): ...\n", "mine.py:train", "train takes 2 arguments; write it as train("),
        ("def train(:\n", "mine.py:train", "mine.py is not Python (invalid syntax (mine.py, line 1)); mend it"),
        (b"\xff\xfe", "mine.py:train", "mine.py is not Python ('utf-8' codec can't decode byte 0xff"),
    ],
)  # fmt: skip
def test_a_trainer_that_could_not_be_called_is_refused(
    problem, trainer, content: str | bytes, name: str, message: str
) -> None:
    assert problem(trainer(content, name), space=WIDTHS).startswith(f"experiment.yaml:6: objective.trainer: {message}")


@pytest.mark.parametrize(
    "key", ["train.max_steps: {choice: [20, 30]}", "seed: {choice: [0, 1]}", "resources.workers: {choice: [1, 2]}"]
)
def test_what_a_trainer_of_ones_own_is_told_can_be_searched(load, trainer, key: str) -> None:
    assert load(trainer(), space=f"parameters: {{{key}}}\n").search is not None


def test_what_a_trainer_of_ones_own_is_not_told_is_searched_for_nothing(problem, trainer) -> None:
    assert problem(trainer(), space=RATE) == (
        "space.yaml:1: train.learning_rate: train.learning_rate is not told to a custom trainer, so searching it would "
        "change nothing; search objective.settings.NAME instead"
    )
