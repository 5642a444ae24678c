"""How the package is laid out: no circles of imports, no crowded folder, no long file."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

import raytune_ft

PACKAGE = Path(raytune_ft.__file__).parent
MOST_MODULES, MOST_IN_ROOMS, MOST_LINES = 16, 12, 300
ROOMY = ("search", "serving", "execution")
"""Folders that hold rooms, and themselves no more than a dozen modules each."""
Graph = Mapping[str, set[str]]


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("raytune_ft", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(known: Mapping[str, Path]) -> dict[str, set[str]]:
    """Module -> those that it imports anywhere: at its top, inside a function, or for its types alone."""
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                found = [f"{node.module}.{each.name}" for each in node.names]
                graph[name] |= {each if each in known else node.module for each in found}
            elif isinstance(node, ast.Import):
                graph[name] |= {each.name for each in node.names}
        graph[name] = {each for each in graph[name] if each in known and each != name}
    return graph


def circle(graph: Graph) -> list[str] | None:
    """Modules that import one another in this order, the first again after the last; None where there are none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str] | None:
        if name in way:
            return way[way.index(name) :]
        if name in done:
            return None
        for other in sorted(graph[name]):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return None

    return next(filter(None, (walk(name, []) for name in sorted(graph))), None)


def test_a_circle_is_found_whatever_its_length() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set(), "d": {"a", "c"}}) is None
    assert circle({"a": {"b"}, "b": {"a"}}) == ["a", "b"]
    assert circle({"z": {"a"}, "a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c"]


def test_no_two_modules_import_each_other() -> None:
    graph = imports(modules())
    assert sum(map(len, graph.values())) > 1000, "imports are found"
    assert circle(graph) is None


@pytest.mark.parametrize("folder", sorted({path.parent for path in modules().values()}), ids=lambda path: path.name)
def test_a_folder_holds_few_modules(folder: Path) -> None:
    held = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    roomy = folder.relative_to(PACKAGE).parts[:1] in {(name,) for name in ROOMY}
    assert len(held) <= (MOST_IN_ROOMS if roomy else MOST_MODULES), held


@pytest.mark.parametrize("path", modules().values(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
