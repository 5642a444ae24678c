"""No number of an experiment may be written as a boolean or as text, which pydantic alone would take for one."""

from __future__ import annotations

from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic import Strict as StrictType

from raytune_ft.config.starter.reference import _models

FIELDS = [(model, name) for _, model in _models() for name in model.model_fields]


def lenient(annotation: Any, metadata: list[Any]) -> bool:
    if any(isinstance(each, StrictType) and each.strict for each in metadata):
        return False
    if get_origin(annotation) is Annotated:
        return lenient(get_args(annotation)[0], list(annotation.__metadata__))
    return annotation in (int, float) or any(lenient(part, []) for part in get_args(annotation))


def test_the_models_have_numbers() -> None:
    assert len(FIELDS) > 50


@pytest.mark.parametrize(("model", "name"), FIELDS)
def test_a_field_takes_no_stand_in_for_a_number(model: type[BaseModel], name: str) -> None:
    field = model.model_fields[name]
    assert not lenient(field.annotation, field.metadata), "annotate it with StrictInt or StrictFloat"
