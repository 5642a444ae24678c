"""One side of a measurement as a process of its own, that surely ends with all that it started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from raytune_ft.serving.local.processes import end

THREADS = 2
"""Of every side: Ray gives its worker as many as it reserves CPUs, the others get them by environment."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LEAVE_S = 10.0  # Ray's processes go by themselves soon after their driver
_LOG_LINES = 15


class SideFailed(Exception):
    """A side did not end well; the message holds the end of its log."""


def run_side(
    command: Sequence[str],
    directory: Path,
    timeout_s: float,
    watch: Callable[[int], None] | None = None,
) -> float:
    """Runs a side to its end and returns its seconds, from the start of its process to the end of it.

    Args:
        command: What to run.
        directory: Made, and the side's working directory; `log.txt` in it gets all that the side prints.
        timeout_s: The side is killed then, with all its processes, as it is by Ctrl-C.
        watch: Called about every half second with the process id while the side runs.

    Raises:
        SideFailed: It took longer, or ended with another exit code than 0.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log.txt"
    _prctl(_PR_SET_CHILD_SUBREAPER)  # what outlives its parent becomes our child, so nothing gets lost
    with log.open("wb") as stream:
        started = time.perf_counter()
        side = subprocess.Popen(
            command,
            cwd=directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        try:
            code = _wait(side, started + timeout_s, watch)
            seconds = time.perf_counter() - started
        finally:
            end_descendants(_LEAVE_S if side.poll() == 0 else 0.0)
    if code is None:
        raise SideFailed(f"{_shown(command)}: not done after {timeout_s:.0f} s, killed; its log ends:\n{_tail(log)}")
    if code != 0:
        raise SideFailed(f"{_shown(command)}: exit code {code}; its log ends:\n{_tail(log)}")
    return seconds


@contextmanager
def running_side(
    command: Sequence[str], directory: Path, variables: Mapping[str, str] | None = None
) -> Iterator[Callable[[], None]]:
    """A side that answers others for as long as the block runs; it and all that it started are ended after it.

    Args:
        command: What to run.
        directory: Made, and the side's working directory; `log.txt` in it gets all that the side prints.
        variables: Added to its environment.

    Yields:
        A check that raises a SideFailed where the side has ended by itself.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log.txt"
    with log.open("wb") as stream:
        side = psutil.Popen(
            command,
            cwd=directory,
            env={**_environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )

    def check() -> None:
        if (code := side.poll()) is not None:
            raise SideFailed(f"{_shown(command)}: exit code {code}; its log ends:\n{_tail(log)}")

    try:
        yield check
    finally:
        started = {psutil.Process(side.pid), *side.children(recursive=True)} if side.poll() is None else set()
        if side.poll() is None:
            side.terminate()
        end(started, _LEAVE_S)
        side.wait()


def python(script: Path, *arguments: str | Path) -> list[str]:
    """The command that runs a script with this Python."""
    return [sys.executable, str(script), *map(str, arguments)]


def end_descendants(leave_s: float) -> None:
    """Kills every process below this one that is still there after `leave_s`, and waits until none is."""
    psutil.wait_procs(psutil.Process().children(recursive=True), timeout=leave_s)
    while left := psutil.Process().children(recursive=True):
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(left, timeout=5.0)


def _wait(side: subprocess.Popen[bytes], deadline: float, watch: Callable[[int], None] | None) -> int | None:
    while True:
        left = deadline - time.perf_counter()
        try:
            return side.wait(min(left, 0.5) if watch else left)
        except subprocess.TimeoutExpired:
            if time.perf_counter() >= deadline:
                return None
            if watch:
                watch(side.pid)


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "TUNE_"))}
    return kept | {
        "OMP_NUM_THREADS": str(THREADS),
        "HF_HUB_OFFLINE": "1",  # no side waits for a network
        "RAY_USAGE_STATS_ENABLED": "0",
        "WANDB_MODE": "disabled",
        "PYTHONWARNINGS": "ignore",
    }


def _prctl(option: int, value: int = 1) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value)


def _shown(command: Sequence[str]) -> str:
    return " ".join(Path(word).name if word.startswith(os.sep) else word for word in command)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
