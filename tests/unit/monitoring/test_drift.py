from __future__ import annotations

import numpy as np
import pytest

from raytune_ft.monitoring.drift import Measure, compare_inputs, compare_perplexity

LIMITS = {"input_length": 0.1, "unseen_tokens": 0.02, "token_frequencies": 0.05}
Rows = list[np.ndarray]


def rows(seed: int, count: int, *, most: int = 200, length: int = 20) -> Rows:
    """Rows of about `length` tokens below `most`, the small ones more often, as words are."""
    draw = np.random.default_rng(seed)
    return [
        np.minimum(draw.zipf(1.3, size=draw.integers(length // 2, length * 2)), most - 1).astype(np.int32)
        for _ in range(count)
    ]


def measured(logged: Rows, training: Rows, seed: int = 0) -> dict[str, Measure]:
    return {measure.name: measure for measure in compare_inputs(logged, training, LIMITS, seed)}


TRAINING = rows(0, 400)


def test_requests_like_the_training_rows_show_no_drift() -> None:
    for seed in range(1, 4):
        found = measured(rows(seed, 100), TRAINING)
        assert not any(measure.drift for measure in found.values()), found
        assert all(measure.sure > 0.01 for measure in found.values())


def test_longer_requests_of_the_same_words_drift_in_length_alone() -> None:
    found = measured(rows(1, 100, length=40), TRAINING)
    assert [name for name, measure in found.items() if measure.drift] == ["input_length"]
    assert found["input_length"].value > 0.4 > found["input_length"].training


def test_new_words_drift_in_vocabulary_and_not_in_length() -> None:
    new = [row + 1000 if index % 4 == 0 else row for index, row in enumerate(rows(1, 100))]
    found = measured(new, TRAINING)
    assert {name for name, measure in found.items() if measure.drift} == {"unseen_tokens", "token_frequencies"}
    assert found["unseen_tokens"].value == pytest.approx(0.25, abs=0.08)


def test_known_words_in_other_shares_drift_in_frequencies_alone() -> None:
    flat = [np.random.default_rng(len(row)).choice(np.concatenate(TRAINING[:50]), len(row)) for row in rows(1, 100)]
    other = [np.sort(row)[::-1].copy() if index % 2 else np.full_like(row, 3) for index, row in enumerate(flat)]
    found = measured(other, TRAINING)
    assert found["token_frequencies"].drift
    assert not found["unseen_tokens"].drift


def test_a_difference_that_is_sure_but_small_is_no_drift() -> None:
    slightly = rows(1, 4000, length=21)
    [length, *_] = compare_inputs(slightly, rows(0, 9000), {**LIMITS, "input_length": 0.2})
    assert length.sure <= 0.01 and not length.drift


def test_more_requests_than_half_the_training_rows_are_cut_to_that() -> None:
    found = measured(rows(1, 100), rows(0, 60))
    assert not any(measure.drift for measure in found.values())


def losses(seed: int, mean: float, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    return draw.normal(mean, 0.3, count), draw.integers(1, 20, count)


def test_perplexity_is_that_of_all_tokens_together() -> None:
    found = compare_perplexity("p", (np.array([1.0, 3.0]), np.array([3, 1])), losses(0, 1.0), 1.25)
    assert found.value == pytest.approx(np.exp(1.5))


@pytest.mark.parametrize(("mean", "drift"), [(1.0, False), (0.5, False), (1.1, False), (1.6, True)])
def test_perplexity_drifts_upwards_and_beyond_its_limit(mean: float, drift: bool) -> None:
    assert compare_perplexity("p", losses(1, mean), losses(2, 1.0), 1.25).drift is drift


def test_a_large_perplexity_of_two_rows_is_not_sure() -> None:
    found = compare_perplexity("p", (np.array([0.2, 3.0]), np.array([5, 5])), losses(2, 1.0), 1.25)
    assert found.value > 1.25 * found.training and not found.drift
