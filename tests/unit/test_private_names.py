"""Private names of other packages: all are in `private_names.yaml`, and are what they were when they were read.

An upgrade that moves one (fault 51) fails here first, with the file of ours that has to be read again.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import raytune_ft

PACKAGE = Path(raytune_ft.__file__).parent
TABLE: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("private_names.yaml").read_text(encoding="utf-8"))
READ_IN: dict[str, str] = TABLE["read_in"]
NAMES: dict[str, list[str]] = TABLE["names"]
PUBLIC = ("vllm", "vllm.inputs", "vllm.lora.request", "os")
"""Of vLLM only these are documented; `os._exit` is public."""
VLLM = ("ray.serve", "ray.llm", "vllm")
"""Modules that take vLLM's ten seconds, or what is used beside them: one test imports them all, in one process."""


def words(name: str) -> str:
    """What stands behind `module:Class.name` now: with its parameters if it is called, with `=` if instances have it.

    Raises:
        ImportError, AttributeError: Nothing.
    """
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split(".") if path else ():
        if inspect.isclass(found) and not hasattr(found, part) and _sets(found, part):
            return f"{name}="
        found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
    if isinstance(found, staticmethod | classmethod):
        found = found.__func__
    if inspect.isclass(found) or isinstance(found, ModuleType) or not callable(found):
        return name
    try:
        parameters = inspect.signature(found).parameters.values()
    except ValueError:  # an operator of PyTorch's, of which there are several forms
        return f"{name}({'; '.join(operator_forms(path))})"
    return f"{name}({', '.join(str(each.replace(annotation=each.empty, default=each.empty)) for each in parameters)})"


def operator_forms(name: str) -> list[str]:
    import torch

    forms = getattr(torch.ops.aten, name)
    return [", ".join(each.name for each in getattr(forms, form)._schema.arguments) for form in forms.overloads()]


def _sets(kind: type, attribute: str) -> bool:
    """Whether it or a parent, written in Python, gives its instances the attribute."""
    parents = [each for each in kind.__mro__ if each.__module__.partition(".")[0] in READ_IN]
    return any(re.search(rf"self\.{attribute}\b.*=", inspect.getsource(each)) for each in parents)


def moved(file: str, expected: str) -> str | None:
    """A line about a name that is not what it was."""
    name = bare(expected)
    package = name.partition(":")[0].partition(".")[0]
    try:
        now = words(name)
    except (ImportError, AttributeError) as error:
        now = f"gone ({error})"
    if now == expected:
        return None
    version = importlib.import_module(package).__version__
    return f"raytune_ft/{file} uses {expected}, read in {package} {READ_IN[package]}; in {version}: {now}"


def entries(vllm: bool) -> list[tuple[str, str]]:
    return [(file, name) for file, names in NAMES.items() for name in names if name.startswith(VLLM) is vllm]


@pytest.mark.parametrize("package", [each for each in READ_IN if each != "vllm"])
def test_private_names_are_what_they_were(package: str) -> None:
    lines = [moved(*each) for each in entries(vllm=False) if each[1].startswith(package)]
    assert lines and not any(lines), "\n".join(filter(None, lines))


def test_private_names_of_the_engine_are_what_they_were() -> None:
    """In a process of its own, as Ray Serve LLM makes the root logger of a process its own."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=600)
    *_, last = [line for line in done.stdout.splitlines() if line] or [""]
    assert json.loads(last) == {"looked at": len(entries(vllm=True)), "moved": [], "unlisted": []}, done.stderr


def look_at_the_engine() -> None:
    """With vLLM here, classes of ours are looked at too: what they replace in their parents has to be in the table."""
    lines = [moved(*each) for each in entries(vllm=True)]
    found = {"looked at": len(lines), "moved": [*filter(None, lines)], "unlisted": [*unlisted_overrides()]}
    print(f"\n{json.dumps(found)}", flush=True)


def unlisted_overrides() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        file, tree = str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8"))
        derived = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.bases]
        if not derived or not external(tree):
            continue
        module = importlib.import_module(".".join(("raytune_ft", *path.relative_to(PACKAGE).with_suffix("").parts)))
        for kind in (getattr(module, name) for name in derived):
            theirs = [each for each in kind.__mro__ if each.__module__.partition(".")[0] in READ_IN]
            for name in vars(kind):
                private = name.startswith("_") and not name.startswith("__") and inspect.isfunction(vars(kind)[name])
                if private and any(name in vars(each) for each in theirs) and name not in listed(file):
                    yield f"raytune_ft/{file}: {kind.__name__} replaces {name}"


def external(tree: ast.Module) -> bool:
    """Whether it imports one of the packages at its top."""
    return any(
        isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in READ_IN for node in tree.body
    )


def listed(file: str) -> set[str]:
    """Last components of the names that the table has for a file."""
    return {re.split(r"[.:]", bare(name))[-1] for name in NAMES.get(file, ())}


def bare(name: str) -> str:
    """Without its parameters."""
    return re.split(r"[(=]", name)[0]


def is_private(name: str) -> bool:
    """Of a dotted name of another package."""
    parts = name.split(".")
    if parts[0] not in READ_IN or name in PUBLIC:
        return False
    return parts[0] == "vllm" or "v2" in parts or any(part.startswith("_") for part in parts)


def used(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Private names in a file of ours: `module` or `name`, and which."""
    defined = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    own = {node.name for node in ast.walk(tree) if isinstance(node, defined)}
    own |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _of_self(node, ast.Store)}
    own |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (("module", each.name) for each in names if is_private(each.name))
            case ast.ImportFrom(module=str(module), names=names) if module.partition(".")[0] in READ_IN:
                for each in names:
                    if is_private(module) or each.name.startswith("_"):
                        yield "name", each.name
            case ast.Constant(value=str(text)) if re.fullmatch(r"\w+(\.\w+)+(:[\w.]+)?", text):
                module, _, path = text.partition(":")
                if is_private(module):
                    yield ("name", path.rpartition(".")[2]) if path else ("module", module)
            case ast.Attribute(attr=name, value=owner) if name.startswith("_") and not name.startswith("__"):
                above = isinstance(owner, ast.Call)  # super()
                if ast.unparse(node) not in ("os._exit",) and (above or name not in own):
                    yield "name", name


def _of_self(node: ast.Attribute, context: type[ast.expr_context]) -> bool:
    return isinstance(node.ctx, context) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def unlisted() -> Iterator[str]:
    for path in sorted(PACKAGE.rglob("*.py")):
        file = str(path.relative_to(PACKAGE))
        whole = [f"{name.replace(':', '.')}." for name in map(bare, NAMES.get(file, ()))]
        for kind, name in sorted(set(used(ast.parse(path.read_text(encoding="utf-8"))))):
            if name not in listed(file) if kind == "name" else not any(each.startswith(f"{name}.") for each in whole):
                yield f"raytune_ft/{file}: {name}"


def test_the_table_has_every_private_name_that_the_package_uses() -> None:
    assert not (missing := list(unlisted())), "\n".join(missing)


def test_the_table_has_no_name_that_is_not_used_any_more() -> None:
    for file in NAMES:
        text = (PACKAGE / file).read_text(encoding="utf-8")
        assert not [name for name in listed(file) - {"", "__init__"} if name not in text], file


def test_a_name_that_moved_is_told_with_the_file_that_needs_it() -> None:
    line = moved("a/b.py", "ray.actor:ActorClassID.from_random(cls, seed)")
    assert line and line.startswith("raytune_ft/a/b.py uses ray.actor:ActorClassID.from_random(cls, seed), read in ray")
    assert line.endswith("ray.actor:ActorClassID.from_random(cls)")
    gone = moved("a/b.py", "optuna.study:Study._no_such_thing(self)")
    assert gone and "gone (" in gone
    assert "gone (" in (moved("a/b.py", "optuna._no_such_module:name") or "")


def test_each_way_to_use_a_private_name_is_found() -> None:
    source = """
from ray._private import services
from ray.train.v2.api.config import FailureConfig
from vllm.lora.request import LoRARequest
import optuna._tools
patched = "ray.serve._private.replica"
needed = "ray._private.node:Node.kill_all_processes"
class Ours(Theirs):
    def _own(self):
        self._mine = self._theirs
        return self._own() + super()._also_theirs() + other._elses + self._mine
"""
    names = {"services", "FailureConfig", "kill_all_processes", "_theirs", "_also_theirs", "_elses"}
    modules = {"optuna._tools", "ray.serve._private.replica"}
    assert set(used(ast.parse(source))) == {("name", each) for each in names} | {("module", each) for each in modules}


if __name__ == "__main__":
    look_at_the_engine()
