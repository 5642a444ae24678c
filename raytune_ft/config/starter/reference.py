"""Generates docs/configuration.md from the models; `python -m` writes it to standard output."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raytune_ft.config.experiment import Experiment

HEADER = """\
# Configuration

Every key of an experiment file, generated from the models by `python -m raytune_ft.config.starter.reference`.
`--set key.path=value` replaces any of them on the command line; a search space may search those of `train`, `method`
and `resources`, and `seed`.
`raytune-ft check --schema` prints the same as a JSON schema for editors.
"""


def render() -> str:
    """Returns the whole page as Markdown."""
    parts = [HEADER]
    for place, model in _models():
        heading = f"`{place}`" if place else "The experiment"
        parts.append(f"## {heading}\n\n{_one_line(model.__doc__)}\n")
        if rows := [_row(name, field) for name, field in model.model_fields.items()]:
            parts.append("| key | type | default | |\n|---|---|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _models() -> Iterator[tuple[str, type[BaseModel]]]:
    """Yields each model once, depth first, with its place in an experiment file."""
    pending: list[tuple[str, type[BaseModel]]] = [("", Experiment)]
    seen: set[type[BaseModel]] = set()
    while pending:
        place, model = pending.pop(0)
        if model in seen:
            continue
        seen.add(model)
        yield place, model
        inner = [
            (_place(place, name, part), part)
            for name, field in model.model_fields.items()
            for part in _models_in(field.annotation)
        ]
        pending = inner + pending


def _place(parent: str, name: str, model: type[BaseModel]) -> str:
    place = f"{parent.split(':')[0]}.{name}".lstrip(".")
    tag = model.model_fields.get("type")
    return place if tag is None else f"{place}: {{type: {tag.default}}}"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _row(name: str, field: FieldInfo) -> str:
    meaning = _one_line(field.description)
    if limits := _limits(field):
        meaning += f" ({limits})"
    cells = (f"`{name}`", _type(field.annotation), _default(field), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(annotation: Any) -> str:
    """Returns a type in the user's words, without module names, and literals as their values."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type(part) for part in parts if part is not type(None)))
    if origin in (list, tuple):
        inner = [_type(part) for part in parts if part is not Ellipsis]
        return f"list of {inner[0]}" if origin is list or Ellipsis in parts else f"[{', '.join(inner)}]"
    if origin is dict:
        return f"mapping to {_type(parts[1])}"
    if annotation is not Any and isinstance(annotation, type):
        if issubclass(annotation, Enum):
            return " or ".join(f"`{member.value}`" for member in annotation)
        if issubclass(annotation, BaseModel):
            return "see below"
        return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
            annotation.__name__, annotation.__name__
        )
    return "anything"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(value, BaseModel):
        tag = getattr(value, "type", None)
        return f"`{{type: {tag}}}`" if tag else "see below"
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool | list):
        value = json.dumps(value)
    return "none" if value is None else f"`{value}`"


def _limits(field: FieldInfo) -> str:
    signs = (("ge", "from"), ("gt", "above"), ("le", "to"), ("lt", "below"))
    found = [
        f"{word} {value}"
        for name, word in signs
        for rule in field.metadata
        if (value := getattr(rule, name, None)) is not None
    ]
    return " ".join(found)


def _one_line(text: str | None) -> str:
    return re.sub(r"\s+", " ", text or "").strip()


if __name__ == "__main__":
    print(render(), end="")
