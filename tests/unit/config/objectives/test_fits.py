"""Data, metrics and space have to fit the objective; each refusal is one line with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from raytune_ft.config.data import DataFormat
from raytune_ft.config.objectives.custom import Custom
from raytune_ft.config.objectives.dpo import Dpo
from raytune_ft.config.search.fits import search_warnings

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
        for file in ("train.jsonl", "test.jsonl"):  # the experiment names them
            (tmp_path / file).touch()
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
        (b"\xff\xfe", "mine.py:train", "mine.py is not Python ((unicode error) 'utf-8' codec can't decode byte 0xff"),
        ("def train(a, b, c, d, e): ...\n", "mine.py:train", "train takes 5 arguments; write it as train(settings"),
        ("def train(a, b, c, d, *, e): ...\n", "mine.py:train", "train needs the keyword e, which nobody gives"),
        (TRAINER, "x" * 5000 + ".py:train", "no file xxx"),
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
        "space.yaml:1: train.learning_rate: is not told to a custom trainer, so searching it would change nothing; "
        "search objective.settings.NAME instead"
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ("{objective.settings.widht: {choice: [2]}}", "objective.settings has no 'widht'; it has width; correct it"),
        (
            "{objective.settings.max_steps: {choice: [2]}}",
            "'max_steps' is what the search tells the trainer; name",
        ),
    ],
)
def test_a_setting_that_a_trainer_does_not_have_is_searched_for_nothing(
    problem, trainer, space: str, message: str
) -> None:
    assert message in problem(trainer(), space=f"parameters: {space}\n")


def test_what_a_trainer_of_ones_own_can_do_nothing_with_is_refused_or_warned_of(
    load, problem, trainer, tmp_path: Path
) -> None:
    pausing = ("scheduler: {type: asha, grace_period: 5}", "scheduler: {type: pbt, perturbation_interval: 5}")
    assert "pbt pauses trials, which a custom trainer's can't; use asha" in problem(trainer(), pausing, space=WIDTHS)
    tokens = ("  trials: 4\n", "  trials: 4\n  budget: {tokens: 100}\n")
    assert "search.budget.tokens: counts tokens, and a custom trainer" in problem(trainer(), tokens, space=WIDTHS)
    metric = ("  trials: 4\n", "  trials: 4\n  metrics: [{name: score, mode: max}, {name: adapter_mib}]\n")
    assert "metric 'adapter_mib' is not reported" in problem(trainer(), metric, space=WIDTHS)
    warned = search_warnings(load(trainer(), space=WIDTHS))
    assert [line.partition(":")[0] for line in warned] == ["method", "resources.strategy", "base_model"]
    trainer()
    (tmp_path / "test.jsonl").unlink()
    assert "data.test: no file test.jsonl" in problem((SFT, CUSTOM % "mine.py:train"), space=WIDTHS)


DPO = "objective: {type: dpo, %s}"
PAIRS = (FORMAT, f"{FORMAT}  format: preference\n")


@pytest.mark.parametrize(
    ("settings", "space", "message"),
    [
        ("label_smoothing: 0.2", RATE, "objective.label_smoothing: only aot, aot_unpaired, exo_pair, robust read it"),
        ("loss_type: robust", RATE, "objective.label_smoothing: may be 0, with which loss_type robust can't train"),
        ("beta: 0.1", "parameters: {objective.loss_type: {choice: [sigmoid, robust]}}\n", "may be 0, with which loss"),
    ],
)
def test_smoothing_is_there_for_the_losses_that_read_it(problem, settings: str, space: str, message: str) -> None:
    assert message in problem((SFT, DPO % settings), PAIRS, space=space)


def test_a_space_of_losses_and_an_adapter_of_the_head(load, problem) -> None:
    space = "parameters: {objective.loss_type: {choice: [sigmoid, robust]}}\n"
    assert load((SFT, DPO % "label_smoothing: 0.1"), PAIRS, space=space).objective.losses == ["sigmoid"]
    head = ("method: {type: lora, r: 8}", "method: {type: lora, target_modules: [lm_head]}")
    assert "method.target_modules: takes lm_head" in problem((SFT, DPO % "beta: 0.1"), PAIRS, head, space=RATE)
    negative = problem((SFT, DPO % "loss_weights: [-1.0]"), PAIRS, space=RATE)
    assert "objective.loss_weights" in negative


def test_qlora_is_tried_with_one_strategy_also_where_that_is_searched(problem) -> None:
    qlora = ("method: {type: lora, r: 8}", "method: {type: qlora}")
    ddp = ("strategy: {type: deepspeed, zero_stage: 2}", "strategy: {type: ddp}")
    space = "parameters: {resources.strategy.type: {choice: [ddp, deepspeed]}}\n"
    for changes, others in (((qlora,), {"space": RATE}), ((qlora, ddp), {"space": space})):
        assert "resources.strategy: deepspeed was never tried with method qlora; use ddp" in problem(*changes, **others)
