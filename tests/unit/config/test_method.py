"""`method:` is LoRA where nothing is said; another type begins the section anew, wherever it is set."""

from __future__ import annotations

import pytest

from raytune_ft.config.load import with_parameters
from raytune_ft.config.training import Full, Lora

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


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [((), (TYPES, f"{RANKS}}}")), (((METHOD, "method: {type: full}"),), (RATE, f"{RANKS}}}"))],
)
def test_a_setting_that_a_trials_method_would_not_have_is_refused_with_what_to_add(
    problem, changes: tuple[tuple[str, str], ...], parameters: tuple[str, str]
) -> None:
    assert problem(*changes, space=space(*parameters)) == (
        "space.yaml:3: method.r: no setting of type full; remove it; in a space, add when: {method.type: lora}"
    )
