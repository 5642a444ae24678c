"""Ctrl-C while something is done that may not stop half way."""

from __future__ import annotations

import os
import signal
import time

import pytest

from raytune_ft.execution.local_ray.uninterrupted import uninterrupted


def test_a_ctrl_c_waits_for_the_end_of_the_block_and_a_second_one_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    steps = []
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        steps.append("ended")
    with pytest.raises(KeyboardInterrupt), uninterrupted():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
        steps.append("not reached")
    with uninterrupted():
        steps.append("quiet")
    assert steps == ["ended", "quiet"]
    assert signal.getsignal(signal.SIGINT) is before
