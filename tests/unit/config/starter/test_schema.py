"""The JSON schema that editors use agrees with what `load_experiment` takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from raytune_ft.config.starter.schema import experiment_schema

ROOT = Path(__file__).parents[4]
VALIDATOR = Draft202012Validator(experiment_schema())


@pytest.fixture
def quickstart() -> dict:
    return yaml.safe_load((ROOT / "experiments/quickstart.yaml").read_text())


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(experiment_schema())


def test_the_quickstart_file_fits_with_its_space_as_a_file_or_inline(quickstart) -> None:
    assert [error.message for error in VALIDATOR.iter_errors(quickstart)] == []
    space = yaml.safe_load((ROOT / quickstart["search"]["space"]).read_text())
    quickstart["search"]["space"] = space
    assert [error.message for error in VALIDATOR.iter_errors(quickstart)] == []


@pytest.mark.parametrize("section", [None, "data", "train", "search", "resources"])
def test_a_misspelled_key_does_not_fit(quickstart, section) -> None:
    (quickstart if section is None else quickstart[section])["learing_rate"] = 1
    assert not VALIDATOR.is_valid(quickstart)


def test_a_misspelled_key_inside_a_union_or_a_wrong_value_does_not_fit(quickstart) -> None:
    quickstart["search"]["scheduler"]["grace"] = 1
    assert not VALIDATOR.is_valid(quickstart)
    del quickstart["search"]["scheduler"]["grace"]
    quickstart["train"]["learning_rate"] = -1
    assert not VALIDATOR.is_valid(quickstart)


def test_each_key_is_described() -> None:
    schema = experiment_schema()
    models = [schema, *(model for model in schema["$defs"].values() if "properties" in model)]
    bare = [
        f"{model['title']}.{key}"
        for model in models
        for key, value in model["properties"].items()
        if not value.get("description") and key != "type"
    ]
    assert bare == []
