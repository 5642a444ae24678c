"""What is started while giving way belongs to the batch class; the caller does not stay in it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from raytune_ft.execution.local_ray.give_way import giving_way

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="scheduling classes are Linux's")


def test_children_wait_for_the_next_tick_and_the_caller_does_not() -> None:
    before = os.sched_getscheduler(0)
    with giving_way():
        child = subprocess.run(
            [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"],
            check=True,
            capture_output=True,
            text=True,
        )
    assert int(child.stdout) == os.SCHED_BATCH
    assert os.sched_getscheduler(0) == before


def test_a_system_that_refuses_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    with giving_way():
        pass
