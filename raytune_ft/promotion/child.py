"""A step in a process of its own: it gives all of its memory back, and what it prints is kept for when it fails."""

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
"""After so long without a line, one says that it still works."""
_SAY = "say: "


def run_child(
    module: str, spec: Mapping[str, Any], timeout_s: float, say: Callable[[str], None], name: str, remedy: str = ""
) -> dict[str, Any]:
    """Runs `python -m module SPEC.json`, which writes RESULT.json, and returns what that holds.

    Args:
        module: The module; its main is `child_main`.
        spec: What it is told.
        timeout_s: It is ended after so long.
        say: Told what the child says, and its log's end when it fails.
        name: What errors call it.
        remedy: What to do where it takes too long.

    Raises:
        RaytuneError: It failed, or took too long; InputError where it says that the input is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="raytune-ft-") as scratch:
        where = Path(scratch)
        os.chmod(where, 0o700)
        write_json(where / "spec.json", spec)
        with (where / "log").open("w", encoding="utf-8") as log:
            # A group of its own, so that what it started ends with it; its stdin ends when this process does.
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
    """Until the child's end; `still` is called every now and then with the seconds since it began."""
    began_s = time.monotonic()
    while (spent_s := time.monotonic() - began_s) < timeout_s:
        with suppress(subprocess.TimeoutExpired):
            child.wait(min(_SILENT_S, timeout_s - spent_s))
            return
        if time.monotonic() - began_s < timeout_s:
            still(time.monotonic() - began_s)
    raise subprocess.TimeoutExpired(child.args, timeout_s)


def child_main(work: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    """What a child's module does: reads the spec, works, and writes the result or the error."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    spec, target = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        write_json(target, {"result": work(json.loads(spec.read_text(encoding="utf-8")))})
    except InputError as error:
        write_json(target, {"input_error": [error.where, error.what, error.remedy]})
        sys.exit(2)
    except Exception as error:  # whatever it is, the parent says it in one line; the traceback goes to the log
        write_json(target, {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"})
        raise


def tell(line: str) -> None:
    """One line for the user, out of a child."""
    print(f"{_SAY}{line}", flush=True)


def _die_with_parent() -> None:
    """The parent holds the other end and never writes: the end of the file is the parent's."""
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
    """Ends the child and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdin is not None
    child.stdin.close()
