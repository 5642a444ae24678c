"""Reads and writes YAML for configurations: only plain data, with the line of every key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from raytune_ft.errors import InputError

MAX_BYTES = 1 << 18
MAX_DEPTH = 32
KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """A file's plain values, and the line of each key."""

    source: str
    value: dict[str, Any]
    lines: dict[KeyPath, int]

    def place(self, path: KeyPath) -> str:
        """Returns the place of the innermost key of `path` that the file holds, such as `file.yaml:12`."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.source}:{self.lines[path[:end]]}"
        return self.source


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-4 as a number and 2026-01-31 as text, as YAML 1.2 does."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes texts which _Loader would read as numbers."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def dump_yaml(value: Any) -> str:
    """Returns plain values as YAML that `parse_yaml` can read."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def dump_text(text: str) -> str:
    """Returns `text` as a YAML scalar on one line, in quotes if it needs them."""
    line = yaml.dump(text, Dumper=_Dumper, default_flow_style=True, width=float("inf"))
    return line.removesuffix("\n").removesuffix("\n...")


def read_yaml(path: Path) -> Document:
    """Reads a file with one mapping; raises InputError with file and line for anything that is not plain data."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise InputError(str(path), error.strerror or str(error), "give the path of a YAML file") from error
    if len(raw) > MAX_BYTES:
        raise InputError(str(path), f"{len(raw)} bytes is too large for a configuration", f"give at most {MAX_BYTES}")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{path}:{line}", f"byte 0x{raw[error.start]:02x} is not UTF-8", "save it as UTF-8") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Document:
    """Parses one mapping of plain values; `source` names it in errors."""
    lines: dict[KeyPath, int] = {}
    try:
        _refuse_surprises(text, source)
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            raise InputError(source, "is empty", "raytune-ft init writes one to start from")
        value = _plain(loader, node, (), lines, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        where = f"{source}:{mark.line + 1}" if mark is not None else source
        raise InputError(
            where, f"not valid YAML ({getattr(error, 'problem', None) or error})", "fix the syntax"
        ) from error
    if not isinstance(value, dict):
        raise InputError(source, f"is a {type(value).__name__}, not a mapping", "write `key: value` lines")
    return Document(source, value, lines)


def _refuse_surprises(text: str, source: str) -> None:
    """Refuses aliases, tags and deep nesting by the parser's events, before any object is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        where = f"{source}:{event.start_mark.line + 1}"  # type: ignore[union-attr]  # never None here
        if isinstance(event, yaml.AliasEvent):
            raise InputError(where, f"alias *{event.anchor}", "aliases are refused; write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise InputError(where, f"tag {tag} is refused", "write plain values, and text in quotes")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise InputError(where, "is nested too deeply", "a configuration is a few levels deep")


def _plain(loader: _Loader, node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str) -> Any:
    here = f"{source}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InputError(f"{source}:{line}", "a key is not a plain word", "write `key: value`")
            key = key_node.value
            if key in mapping:
                first = lines[(*path, key)]
                raise InputError(f"{source}:{line}", f"key {key} stands twice (first on line {first})", "keep one")
            lines[(*path, key)] = line
            mapping[key] = _plain(loader, value_node, (*path, key), lines, source)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(loader, child, (*path, index), lines, source) for index, child in enumerate(node.value)]
    try:
        return loader.construct_object(node)
    except ValueError as error:  # e.g. an integer of 5,000 digits
        shown = node.value if len(node.value) <= 40 else node.value[:37] + "..."
        raise InputError(here, f"{shown} can't be read as a number", "put text in quotes") from error
