"""What a worker tells oneDNN before its first product."""

from __future__ import annotations

import os

import pytest

from raytune_ft.training.kernel_cache import KERNELS, keep_few_kernels

VARIABLE = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_few_kernels_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    keep_few_kernels()
    assert os.environ[VARIABLE] == str(KERNELS)


def test_a_users_own_number_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "7")
    keep_few_kernels()
    assert os.environ[VARIABLE] == "7"
