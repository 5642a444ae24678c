"""Runs a step in a child process, which frees all of its memory at its end and whose output is kept in a log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.paths import read_json, write_json

_SHOWN_LINES = 20
_SILENT_S = 12.0
"""Seconds without output after which the user is told that the child still works."""
_SAY = "say: "


def run_child(
    module: str, spec: Mapping[str, Any], timeout_s: float, say: Callable[[str], None], name: str, remedy: str = ""
) -> dict[str, Any]:
    """Runs `python -m module SPEC.json`, which writes RESULT.json, and returns the result in that file.

    Args:
        module: The module to run, which calls `child_main`.
        spec: The child's input.
        timeout_s: Seconds after which the child is killed.
        say: Receives the child's lines for the user, and the end of its log if it fails.
        name: Name of the step in error messages.
        remedy: Advice to the user for when it takes too long.

    Raises:
        InputError: The child reports that the input is wrong.
        RaytuneError: The child failed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="raytune-ft-") as scratch:
        where = Path(scratch)
        os.chmod(where, 0o700)
        write_json(where / "spec.json", spec)
        with (where / "log").open("w", encoding="utf-8") as log:
            # It has a process group of its own, so that its children can be killed with it. Its stdin is a pipe, which
            # closes when this process ends.
            child = subprocess.Popen(
                [sys.executable, "-m", module, str(where / "spec.json"), str(where / "result.json")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, errors="replace",
                start_new_session=True,
            )  # fmt: skip
            reader = threading.Thread(target=_forward, args=(child, log, say), daemon=True)
            reader.start()
            ended = ""
            try:
                _wait(child, timeout_s, lambda seconds: say(f"{name}: at work for {seconds:.0f} s"))
            except subprocess.TimeoutExpired:
                ended = f"took longer than {timeout_s:g} s" + (f"; {remedy}" if remedy else "")
            finally:
                _end(child)
                reader.join()
        result = read_json(where / "result.json") if (where / "result.json").is_file() else {}
        if error := result.get("input_error"):
            raise InputError(*error)
        if child.returncode == 0 and not ended and "result" in result:
            found: dict[str, Any] = result["result"]
            return found
        lines = (where / "log").read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        for line in lines[-_SHOWN_LINES:]:
            say(f"  {name}: {line}")
        ended = ended or result.get("error") or f"ended with code {child.returncode}"
        raise RaytuneError(f"{name}: {ended}")


def _wait(child: subprocess.Popen[str], timeout_s: float, still: Callable[[float], None]) -> None:
    """Waits for the child to end; calls `still` regularly with the seconds since the start."""
    began_s = time.monotonic()
    while (spent_s := time.monotonic() - began_s) < timeout_s:
        with suppress(subprocess.TimeoutExpired):
            child.wait(min(_SILENT_S, timeout_s - spent_s))
            return
        if time.monotonic() - began_s < timeout_s:
            still(time.monotonic() - began_s)
    raise subprocess.TimeoutExpired(child.args, timeout_s)


def child_main(work: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """Is the main function of a child's module: reads the spec, works, and writes the result or the error."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    spec, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        write_json(target, {"result": work(json.loads(spec.read_text(encoding="utf-8")))})
    except InputError as error:
        write_json(target, {"input_error": [error.where, error.what, error.remedy]})
        sys.exit(2)
    except Exception as error:  # the parent reports one line; the traceback goes to the log
        write_json(target, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"})
        raise


def tell(line: str) -> None:
    """Sends a line for the user from the child to the parent."""
    print(f"{_SAY}{line}", flush=True)


def _die_with_parent() -> None:
    """Kills this process group when stdin closes, which means that the parent has ended."""
    os.read(sys.stdin.fileno(), 1)
    os.killpg(os.getpgid(0), signal.SIGKILL)


def _forward(child: subprocess.Popen[str], log: Any, say: Callable[[str], None]) -> None:
    assert child.stdout is not None
    with child.stdout as lines:
        for line in lines:
            if line.startswith(_SAY):
                say(line.removeprefix(_SAY).rstrip("\n"))
            else:
                log.write(line)


def _end(child: subprocess.Popen[str]) -> None:
    """Kills the child and its own children."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
