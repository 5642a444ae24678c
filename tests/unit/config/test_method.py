"""`method:` is LoRA where nothing is said; another type begins the section anew, wherever it is set."""

from __future__ import annotations

import pytest

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.load import with_parameters
from raytune_ft.config.methods.full import Full
from raytune_ft.config.methods.lora import Lora

METHOD = "method: {type: lora, r: 8}"
RATE = "train.learning_rate: {loguniform: [1.0e-5, 1.0e-3]}"
TYPES = "method.type: {choice: [lora, full]}"
RANKS = "method.r: {choice: [4, 8]"


def space(*parameters: str) -> str:
    return "parameters:\n" + "".join(f"  {parameter}\n" for parameter in parameters)


def test_lora_needs_no_type_and_full_has_no_settings(load) -> None:
    assert load((METHOD, "method: {r: 4}")).method == Lora(r=4)
    assert load((METHOD, "method: {type: full}"), space=space(RATE)).method == Full()


@pytest.mark.parametrize("method", [METHOD, "method: {r: 4}", ""])
def test_another_type_on_the_command_line_drops_what_belongs_to_the_one_in_the_file(load, method: str) -> None:
    assert load((METHOD, method), space=space(RATE), overrides=("method.type=full",)).method == Full()
    assert load((METHOD, method), space=space(RATE), overrides=("method.r=2", "method.type=lora")).method.r == 2


def test_a_space_over_methods_gives_each_trial_the_settings_of_its_own(load) -> None:
    experiment = load(space=space(RATE, TYPES, f"{RANKS}, when: {{method.type: lora}}}}"))
    assert with_parameters(experiment, {"method.type": "full", "train.learning_rate": 1e-4}).method == Full()
    assert with_parameters(experiment, {"method.type": "lora", "method.r": 4}).method == experiment.method.model_copy(
        update={"r": 4}
    )


def test_a_setting_of_another_method_is_refused_with_what_to_do(problem) -> None:
    wrong = problem((METHOD, "method: {type: full}"), space=space(RATE, f"{RANKS}}}"))
    assert wrong == (
        "space.yaml:3: method.r: is no setting of type full but of lora; "
        "remove it, or in a space give it when: {method.type: lora}"
    )


@pytest.mark.parametrize("condition", ["", ", when: {train.dtype: float32}", ", when: {method.alpha: 16}"])
def test_where_the_method_is_searched_its_settings_say_whose_they_are(problem, condition: str) -> None:
    wrong = problem(space=space(TYPES, f"{RANKS}{condition}}}"))
    assert wrong == (
        "space.yaml:3: method.r belongs to one method, and method.type is searched; add when: {method.type: lora}"
    )


def test_a_section_cant_be_searched(problem) -> None:
    wrong = problem(space=space("method: {choice: [{type: lora}, {type: full}]}"))
    assert wrong == "space.yaml:2: method is a section, which can't be searched; search its settings"


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ("method: full", 'method: "full" is not a section; write method: {type: full}'),
        ("method: [full]", 'method: ["full"] is not a section; write method: {type: lora}'),
        ("method: null", "method: null is not a section; write method: {type: lora}"),
        ("method: {lora: {r: 8}}", "method.lora: unknown key; "),
        ("method: {type: full, full: 3}", "method.full: unknown key; "),
    ],
)
def test_what_is_no_method_is_told_in_one_line(problem, method: str, line: str) -> None:
    assert problem((METHOD, method)).startswith(f"experiment.yaml:7: {line}")


def test_a_misspelled_type_is_told_where_it_was_set(problem) -> None:
    assert (
        problem(overrides=("method.type=Full",))
        == "--set: method: type 'Full' is unknown; did you mean full? use one of: lora, qlora, full"
    )


def test_a_full_fine_tune_has_a_tenth_of_loras_rate_where_none_is_given() -> None:
    def rate(**changes: object) -> float:
        values = {"name": "e", "base_model": "b", "data": {"train": "t"}, **changes}
        return Experiment.model_validate(values).train.learning_rate

    assert rate(method={"type": "full"}) == pytest.approx(rate() / 10)
    assert rate(method={"type": "full"}, train={"dtype": "float32"}) == pytest.approx(rate() / 10)
    assert rate(method={"type": "full"}, train={"learning_rate": 3e-4}) == 3e-4


def test_a_portfolio_of_lora_says_nothing_about_full_fine_tuning(problem) -> None:
    algorithm = "algorithm: {type: portfolio, file: search_spaces/portfolios/lora_sft_small.yaml}"
    wrong = problem((METHOD, "method: {type: full}"), ("algorithm: {type: tpe, seed: 0}", algorithm), space=space(RATE))
    assert "which method full does not have; its rates are for another method" in wrong
