"""Turns pydantic's validation errors into lines that a user can act on."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ValidationError

from raytune_ft.errors import InputError

KeyPath = tuple[str | int, ...]
Place = Callable[[KeyPath], str]
"""Function from a key path to the place where it was written, `file:line`."""
RENAMED: dict[KeyPath, tuple[str, str]] = {
    ("evaluate", "bootstrap_samples"): (
        "is needed no more: intervals are worked out without resampling",
        "leave it out",
    ),
    ("runner", "pin_threads"): ("is needed no more: pinning gained nothing", "leave it out"),
    ("runner", "step", "attention"): ("is called train.attn_implementation now", "move it there, or leave it out"),
    ("train", "bf16"): ("is called dtype now", "write dtype: bfloat16 for true, float32 for false, or leave it out"),
}
"""Key path of an earlier version -> what has become of it, and the remedy."""


def at(place: Place, *path: str | int) -> str:
    """Returns the location of an error about a setting, such as `file:line: search.trials`."""
    return f"{place(path)}: {'.'.join(str(part) for part in path)}"


def always(where: str) -> Place:
    """Returns a Place that gives `where` for all settings."""
    return lambda path: where


def input_error(error: ValidationError, model: type[BaseModel], place: Place) -> InputError:
    """Returns one InputError for all problems; `place` turns a key path into `file:line`."""
    problems = error.errors(include_url=False)
    misspelled = {near for each in problems if each["type"] == "extra_forbidden" and (near := _meant(each, model))}
    lines = [
        _line(each, model, place)
        for each in problems
        if each["type"] != "missing" or _key_path(model, each["loc"]) not in misspelled  # one mistake gets one line
    ]
    unique = list(dict.fromkeys(lines))
    where, what, remedy = unique[0]
    return InputError(where, what, remedy, tuple(str(InputError(*line)) for line in unique[1:]))


def _line(problem: Any, model: type[BaseModel], place: Place) -> tuple[str, str, str]:
    path = _key_path(model, problem["loc"])
    if problem["type"] == "extra_forbidden" and path[-1:] != problem["loc"][-1:]:  # the key has the name of a type
        path = (*path, problem["loc"][-1])
    dotted = ".".join(str(part) for part in path)
    where = ": ".join(part for part in (place(path), dotted) if part)
    match problem["type"]:
        case "extra_forbidden" if path in RENAMED:
            return where, *RENAMED[path]
        case "extra_forbidden":
            near, known = _meant(problem, model), ", ".join(known_keys(model, path[:-1]))
            others = [tag for each in _at(model, path[:-1]) if (tag := _has(each, path[-1]))]
            if others:
                in_space = f", or in a space give it when: {{method.type: {others[0]}}}" if path[0] == "method" else ""
                own = f"set objective.type: {others[0]}, or " if path[0] == "objective" else ""
                remedy = f"{own}remove it{in_space}"
                return where, f"is no setting of type {problem['loc'][-2]} but of {others[0]}", remedy
            return where, "unknown key", f"did you mean {near[-1]}?" if near else f"known keys: {known}"
        case "missing":
            return where, "missing", "add it"
        case "union_tag_invalid":
            expected, tag = problem["ctx"]["expected_tags"].replace("'", ""), str(problem["ctx"]["tag"])
            meant = difflib.get_close_matches(tag.lower(), expected.split(", "), n=1)
            remedy = f"use one of: {expected}"
            return where, f"type {tag!r} is unknown", f"did you mean {meant[0]}? {remedy}" if meant else remedy
        case "union_tag_not_found":
            tags = [str(tag) for each in _at(model, path) if (tag := _tag(each))]
            return where, "has no type", f"add type: {' or '.join(tags)}"
        case "string_type" if isinstance(problem["input"], bool | int | float):
            return where, f"{_shown(problem['input'])} is not text", "put it in quotes"
        case "int_type" | "float_type":
            value, kind = problem["input"], "a whole number" if problem["type"] == "int_type" else "a number"
            whole = "write it without point or exponent; a space draws whole numbers by randint or choice"
            return where, f"{_shown(value)} is not {kind}", whole if type(value) is float else "write plain digits"
        case "value_error":
            inner = problem["ctx"]["error"]
            if isinstance(inner, InputError):
                return where, inner.what, inner.remedy
            what, _, remedy = str(inner).partition("; ")
            return where, what, remedy
        case _:
            return where, f"{_shown(problem['input'])}: {problem['msg'][0].lower()}{problem['msg'][1:]}", ""


def _meant(problem: Any, model: type[BaseModel]) -> KeyPath | None:
    """Returns the path of the known key that an unknown one resembles, or None."""
    *parent, key = *_key_path(model, problem["loc"][:-1]), problem["loc"][-1]
    near = difflib.get_close_matches(str(key), known_keys(model, tuple(parent)), n=1, cutoff=0.5)
    return (*parent, near[0]) if near else None


def _shown(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _key_path(model: type[BaseModel], loc: KeyPath) -> KeyPath:
    """Returns pydantic's location without the union tags that it inserts between keys."""
    kept: list[str | int] = []
    at: list[Any] = [model]
    for part in loc:
        following = [child for each in at for child in _children(each, part)]
        tags = [each for each in at if isinstance(each, type) and _tag(each) == part]
        if tags and not following:
            at = tags
            continue
        if not following and _is_type_name(part, kept):
            continue
        kept.append(part)
        at = [member for child in following for member in _members(child)]
    return tuple(kept)


def _is_type_name(part: str | int, kept: list[str | int]) -> bool:
    """Tells whether a last location is a member of a plain union, such as `str`, `constrained-int` or `list[str]`."""
    names = ("str", "float", "int", "bool", "list[", "literal[", "constrained-")
    return bool(kept) and isinstance(part, str) and part.startswith(names)


def known_keys(model: type[BaseModel], path: KeyPath) -> list[str]:
    """Returns the keys that are known at `path`."""
    return sorted({key for each in _at(model, path) if _is_model(each) for key in each.model_fields})


def _at(model: type[BaseModel], path: KeyPath) -> list[Any]:
    """Returns the types that are possible at `path`."""
    at: list[Any] = [model]
    for part in path:
        at = [member for each in at for child in _children(each, part) for member in _members(child)]
    return at


def _children(annotation: Any, part: str | int) -> list[Any]:
    if _is_model(annotation):
        field = annotation.model_fields.get(str(part))
        return [field.annotation] if field else []
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return [args[1]]
    if origin in (list, tuple) and isinstance(part, int):
        return [args[min(part, len(args) - 1)]]
    return []


def _members(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [member for each in typing.get_args(annotation) for member in _members(each)]
    return [annotation]


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _has(model: Any, key: str | int) -> Any:
    """Returns the tag of a model type if it has that key, else None."""
    return _tag(model) if _is_model(model) and key in model.model_fields else None


def _tag(model: Any) -> Any:
    field = model.model_fields.get("type") if _is_model(model) else None
    return field.default if field else None
