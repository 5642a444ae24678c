"""Packs grow while that is measured to be faster."""

from __future__ import annotations

import pytest

from raytune_ft.training.lane.packing import pack_size
from raytune_ft.training.lane.packing.pack_size import PATIENCE_S, STEPS, PackSize
from raytune_ft.training.lane.ranks import Ranks


def train(size: PackSize, rates: dict[int, float]) -> list[int]:
    """Takes steps at the rates of each pack size until nothing changes; returns the limits it went through."""
    seen = [size.limit]
    for _ in range(20 * STEPS):
        size.measured(size.limit, 1000, 1000 / rates[size.limit])
        if size.limit != seen[-1]:
            seen.append(size.limit)
    return seen


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_size, "has_room", lambda device: True)


def test_a_pack_doubles_while_it_gains(room: None) -> None:
    assert train(PackSize("auto", 64, "cpu", Ranks()), {1: 100, 2: 150, 4: 200, 8: 250, 16: 251}) == [1, 2, 4, 8, 16, 8]


def test_a_pack_that_does_not_gain_is_taken_apart(room: None) -> None:
    assert train(PackSize("auto", 64, "cpu", Ranks()), {1: 100, 2: 90}) == [1, 2, 1]


def test_a_pack_is_never_more_than_the_trials_there_are(room: None) -> None:
    assert train(PackSize("auto", 5, "cpu", Ranks()), {1: 1, 2: 2, 4: 4}) == [1, 2, 4]
    assert train(PackSize("auto", 1, "cpu", Ranks()), {1: 1}) == [1]


def test_a_given_size_stays(room: None) -> None:
    assert train(PackSize(3, 64, "cpu", Ranks()), {3: 100}) == [3]


def test_a_pack_stays_where_a_second_one_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_size, "has_room", lambda device: False)
    assert train(PackSize("auto", 64, "cpu", Ranks()), {1: 1, 2: 9}) == [1]


def test_memory_that_runs_out_halves_the_pack_for_good(room: None) -> None:
    size = PackSize("auto", 64, "cpu", Ranks())
    train(size, {1: 1, 2: 2, 4: 4, 8: 4})
    size.does_not_fit()
    assert train(size, {2: 9}) == [2]


def test_small_passes_are_filled_from_the_start(room: None) -> None:
    size = PackSize("auto", 64, "cpu", Ranks())
    size.begins(290.0)
    assert train(size, {4: 100, 8: 101}) == [4, 8, 4]
    size.begins(1.0)  # only the first trial counts
    assert size.limit == 4


def test_no_more_are_packed_from_the_start_than_there_are_trials_or_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for most, fits, limit in ((3, True, 2), (8, True, 8), (8, False, 1)):
        monkeypatch.setattr(pack_size, "has_room", lambda device, fits=fits: fits)
        size = PackSize("auto", most, "cpu", Ranks())
        size.begins(10.0)
        assert size.limit == limit


def test_a_given_size_does_not_grow_with_small_passes(room: None) -> None:
    size = PackSize(2, 64, "cpu", Ranks())
    size.begins(1.0)
    assert size.limit == 2


def test_on_a_cpu_a_size_has_to_last_before_it_doubles(room: None) -> None:
    def passes(device: str, seconds: float) -> int:
        size = PackSize("auto", 64, device, Ranks())
        taken = 0
        while size.limit == 1:
            size.measured(1, 1000, seconds)
            taken += 1
        return taken

    assert passes("cpu", 1.0) == PATIENCE_S
    assert passes("cpu", 2 * PATIENCE_S) == STEPS
    assert passes("cuda", 1.0) == STEPS


def test_a_size_that_lost_is_given_up_without_patience(room: None) -> None:
    size = PackSize("auto", 64, "cpu", Ranks())
    for _ in range(STEPS):
        size.measured(1, 1000, PATIENCE_S)
    assert size.limit == 2
    for _ in range(STEPS):
        size.measured(2, 1000, 1000.0)
    assert size.limit == 1
