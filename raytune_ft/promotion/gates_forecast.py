"""Forecasts what the gates can show with an experiment's number of test rows, before anything is started."""

from __future__ import annotations

from dataclasses import dataclass

from raytune_ft.config.experiment import Experiment
from raytune_ft.metrics.named import LOSS, deciding_metric, is_share

ALIKE, APART = 0.06, 0.25
"""Assumed fractions of test rows on which only one of two adapters is right: for two similar adapters, and for two that
were trained quite differently."""
_ALIKE_WORDS, _APART_WORDS = f"two that differ on {100 * ALIKE:g} % of the rows", f"{100 * APART:g} %"


@dataclass(frozen=True)
class Proof:
    """The margins that the gate `no_worse` can prove.

    Attributes:
        test_rows: Number of test rows.
        metric: The metric that decides.
        margin: The margin that the experiment asks for; None if it follows from the rows.
        least: Smallest margin within which a winner as good as its champion passes in four of five cases (80 % power):
            for an accuracy if the two differ by `ALIKE`, for a loss in standard deviations of the rows' differences.
        most: The same if the two differ by `APART`.
    """

    test_rows: int
    metric: str
    margin: float | None
    least: float
    most: float


def proof_of(experiment: Experiment, test_rows: int | None) -> Proof | None:
    """Returns the forecast for an experiment; None without test rows, for an F1, or if `no_worse` is left out."""
    from raytune_ft.evaluation.margin import margin_of_counts, margin_of_normal_rows

    gate, level = experiment.promotion.no_worse, experiment.evaluate.confidence
    metric = deciding_metric(experiment.evaluate.metrics) or LOSS
    counted = metric == LOSS or is_share(metric)  # what an F1 can show depends on how many rows each label has
    if gate is None or test_rows is None or test_rows < 2 or not counted:
        return None
    if metric == LOSS:
        least = most = margin_of_normal_rows(test_rows, level)
    else:
        least, most = (margin_of_counts(round(share * test_rows), test_rows, level) for share in (ALIKE, APART))
    return Proof(test_rows, metric, gate.margin, least, most)


def proof_words(proof: Proof) -> str:
    """Returns the forecast as one line for the user."""
    from raytune_ft.evaluation.margin import rows_for

    rows = f"{proof.test_rows:,} test rows"
    if proof.metric == LOSS:
        shown = f"{proof.least:.2g} standard deviations of the rows' differences"
        half = rows_for(proof.least / 2, proof.least, proof.test_rows)
        asked = "" if proof.margin is None else f"; asked is {proof.margin:g} nats, which only a promotion can tell"
        return f"with {rows}, no_worse can rule out a loss greater by {shown}; half needs about {half:,}{asked}"
    if proof.margin is None:
        half = rows_for(proof.least / 2, proof.least, proof.test_rows)
        shown = f"{proof.least:.3f} ({_ALIKE_WORDS}) to {proof.most:.3f} ({_APART_WORDS})"
        return f"with {rows}, no_worse can rule out that {proof.metric} falls by {shown}; half needs about {half:,}"
    needs = [rows_for(proof.margin, margin, proof.test_rows) for margin in (proof.least, proof.most)]
    shown = f"{needs[0]:,} ({_ALIKE_WORDS}) to {needs[1]:,} ({_APART_WORDS})"
    return f"{rows}; to rule out that {proof.metric} falls by {proof.margin:g} takes about {shown}"


def too_few_rows(experiment: Experiment, test_rows: int | None) -> str | None:
    """Returns a warning if gates will refuse because of the number of rows alone, else None."""
    promotion = experiment.promotion
    gates = [name for name in ("gain", "no_worse") if getattr(promotion, name) is not None]
    if not gates or test_rows is None or test_rows >= promotion.min_rows:
        return None
    what = f"{test_rows} rows are fewer than promotion.min_rows {promotion.min_rows}: {' and '.join(gates)} will refuse"
    cut = test_rows == experiment.data.max_test_rows
    return f"data.test: {what}; {'raise data.max_test_rows' if cut else 'give more rows'}, or set it lower"
