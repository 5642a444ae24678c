"""Drift statistics: how far logged requests are from the training rows, and how significant that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 500
ALPHA = 0.01
"""Significance level: the rate at which a measure may report drift where there is none."""


@dataclass(frozen=True)
class Measure:
    """One comparison. It counts as drift if it is both significant and large."""

    name: str
    value: float
    """The measure for the logged requests."""
    training: float
    """The measure for equally many training rows."""
    limit: float
    """How much `value` may exceed `training`; for perplexity, by which factor."""
    sure: float
    """The p-value: probability of a value this high without drift, at least 1 / (resamples + 1)."""
    drift: bool


def compare_inputs(
    logged: Sequence[NDArray[np.int32]], training: Sequence[NDArray[np.int32]], limits: dict[str, float], seed: int = 0
) -> list[Measure]:
    """Compares lengths and vocabulary of logged inputs with those of the training rows.

    `input_length` is the Kolmogorov-Smirnov distance of the lengths in tokens. `unseen_tokens` is the fraction of
    tokens that occur in no training row. `token_frequencies` is the Jensen-Shannon distance (base 2) of the token
    frequencies. Each is compared with its distribution over random samples of the training rows against the rest of
    them. This is a permutation test, which only assumes that the rows are drawn from one distribution.

    Args:
        logged: Token ids of each logged input.
        training: Token ids of each training row's input; at least twice as many rows are needed for the full sample.
        limits: Measure -> how much it may exceed the training rows' own.
        seed: Seed of the random samples.
    """
    import numpy as np

    draw = np.random.default_rng(seed)
    size = min(len(logged), len(training) // 2)
    chosen = [logged[i] for i in draw.permutation(len(logged))[:size]]
    every = np.unique(np.concatenate([*chosen, *training]))
    whole = _Counts.of(training, every)
    observed = _distances(_Counts.of(chosen, every), whole)
    null = []
    for _ in range(RESAMPLES):
        sample = _Counts.of([training[i] for i in draw.permutation(len(training))[:size]], every, len(whole.lengths))
        null.append(_distances(sample, whole.without(sample)))
    measures = []
    for index, name in enumerate(("input_length", "unseen_tokens", "token_frequencies")):
        values = np.array([each[index] for each in null])
        usual = float(np.median(values))
        sure = (1 + int((values >= observed[index]).sum())) / (RESAMPLES + 1)
        drift = sure <= ALPHA and observed[index] - usual > limits[name]
        measures.append(Measure(name, observed[index], usual, limits[name], sure, drift))
    return measures


def compare_perplexity(
    name: str,
    logged: tuple[NDArray[np.float64], NDArray[np.int64]],
    reference: tuple[NDArray[np.float64], NDArray[np.int64]],
    limit: float,
    seed: int = 0,
) -> Measure:
    """Compares the perplexity of logged rows with that of held-out rows by a bootstrap over the rows of both.

    Args:
        name: Name of the measure.
        logged: Mean loss in nats and number of tokens of each logged row.
        reference: The same for the validation rows.
        limit: Factor over the validation rows' perplexity above which it counts as large.
        seed: Seed of the bootstrap.
    """
    import numpy as np

    draw = np.random.default_rng(seed)

    def mean_loss(rows: tuple[NDArray[np.float64], NDArray[np.int64]], index: NDArray[np.int64]) -> NDArray[np.float64]:
        loss, tokens = rows
        means: NDArray[np.float64] = (loss * tokens)[index].sum(axis=-1) / tokens[index].sum(axis=-1)
        return means

    def spread(rows: tuple[NDArray[np.float64], NDArray[np.int64]]) -> NDArray[np.float64]:
        return mean_loss(rows, draw.integers(0, len(rows[0]), size=(RESAMPLES, len(rows[0]))))

    value, usual = (float(np.exp(mean_loss(rows, np.arange(len(rows[0]))))) for rows in (logged, reference))
    sure = (1 + int((spread(logged) <= spread(reference)).sum())) / (RESAMPLES + 1)
    return Measure(name, value, usual, limit, sure, sure <= ALPHA and value > limit * usual)


@dataclass(frozen=True)
class _Counts:
    """Counts how often each token occurs in a set of rows, and how many rows have each length."""

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.int32]], every: NDArray[np.int32], most: int = 0) -> _Counts:
        import numpy as np

        flat = np.searchsorted(every, np.concatenate(rows))
        lengths = np.bincount([len(row) for row in rows], minlength=most)
        return cls(np.bincount(flat, minlength=len(every)), lengths)

    def without(self, other: _Counts) -> _Counts:
        return _Counts(self.tokens - other.tokens, self.lengths - other.lengths)


def _distances(sample: _Counts, rest: _Counts) -> tuple[float, float, float]:
    unseen = float(sample.tokens[rest.tokens == 0].sum() / sample.tokens.sum())
    return _ks(sample.lengths, rest.lengths), unseen, _jensen_shannon(sample.tokens, rest.tokens)


def _ks(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Returns the Kolmogorov-Smirnov distance of two distributions, given as counts of the values 0, 1, 2, ..."""
    import numpy as np

    width = max(len(first), len(second))
    cumulative = [np.cumsum(np.pad(counts, (0, width - len(counts)))) / counts.sum() for counts in (first, second)]
    return float(np.abs(cumulative[0] - cumulative[1]).max())


def _jensen_shannon(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    """Returns the square root of the Jensen-Shannon divergence, from 0 to 1 (Endres and Schindelin 2003)."""
    import numpy as np

    p, q = first / first.sum(), second / second.sum()
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = [np.where(each > 0, each * np.log2(each / middle), 0.0).sum() / 2 for each in (p, q)]
    return float(np.sqrt(max(0.0, float(sum(parts)))))
