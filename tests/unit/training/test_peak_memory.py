"""A worker's peak is what its process held at most."""

from __future__ import annotations

from raytune_ft.training import peak_memory
from raytune_ft.training.peak_memory import peak_memory_mib


def test_the_peak_grows_with_what_is_held_and_stays_when_it_is_given_back(monkeypatch, tmp_path) -> None:
    before = peak_memory_mib("cpu")
    held = bytearray(b"x" * (300 * 2**20))
    during = peak_memory_mib("cpu")
    del held
    assert during >= before and during > 300
    assert peak_memory_mib("cpu") >= during
    monkeypatch.setattr(peak_memory, "_STATUS", tmp_path / "no proc here")
    assert abs(peak_memory_mib("cpu") - during) < 0.3 * during
