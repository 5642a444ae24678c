"""The command ends at once, and as an interpreter does: with its code, its output, and what others asked to be done."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import atexit, sys, threading, time
from raytune_ft import __main__ as command
class Slow:
    def __del__(self):
        print("torn down")
kept = Slow()
atexit.register(lambda: print("at exit"))
def late():
    time.sleep(0.2)
    print("thread")
threading.Thread(target=late).start()
def main():
    print("main", end=" ")
    {end}
command.main = main
command.run()
"""


@pytest.mark.parametrize(
    ("end", "code", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(130)", 130, ""),
        ("sys.exit('no')", 1, "no"),
        ("raise ValueError('a bug')", 1, "ValueError: a bug"),
    ],
)
def test_it_ends_with_its_code_after_threads_and_exit_handlers(end: str, code: int, error: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CODE.format(end=end)], capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == code
    said = ended.stdout.split()
    assert said[:4] == ["main", "thread", "at", "exit"]
    assert ("torn" in said) is bool(error)  # nobody waits for that
    assert ended.stderr.rstrip().endswith(error)


def test_python_m_answers_as_the_console_script_does() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "raytune_ft", "--version"], capture_output=True, text=True, check=True
    )
    assert ended.stdout.startswith("raytune-ft ")
