"""Accuracy, F1 and loss, over many resamples of the rows at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from raytune_ft.evaluation.scoring import Scores


def metric_values(name: str, scores: Scores, samples: np.ndarray) -> np.ndarray:
    """One metric for each resample.

    Args:
        name: `loss` (nats per answer token), `accuracy`, `macro_f1` (over the classes that are chosen or expected)
            or `weighted_f1`.
        scores: One model's scores of n rows.
        samples: (s, n) int64, row indices of each resample.

    Returns:
        (s,) float64.
    """
    import numpy as np

    if name == "loss":
        tokens = scores.tokens[samples]
        return np.asarray((scores.loss[samples] * tokens).sum(axis=1) / tokens.sum(axis=1))
    assert scores.choice is not None and scores.expected is not None  # the configuration asks for labels with these
    choice, expected = scores.choice[samples], scores.expected[samples]
    if name == "accuracy":
        return np.asarray((choice == expected).mean(axis=1))
    f1, support, chosen = _f1_by_class(choice, expected)
    if name == "macro_f1":
        seen = support + chosen > 0
        return np.asarray((f1 * seen).sum(axis=0) / seen.sum(axis=0))
    return np.asarray((f1 * support).sum(axis=0) / support.sum(axis=0))


def _f1_by_class(choice: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(classes, s) F1, rows expected and rows chosen; F1 is 0 for a class that is neither chosen nor expected."""
    import numpy as np

    classes = range(int(max(choice.max(), expected.max())) + 1)
    hit = np.array([((choice == k) & (expected == k)).sum(axis=1) for k in classes])
    chosen = np.array([(choice == k).sum(axis=1) for k in classes])
    support = np.array([(expected == k).sum(axis=1) for k in classes])
    return 2 * hit / np.maximum(chosen + support, 1), support, chosen
