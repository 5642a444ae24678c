"""`promotion:`: the gates that a winner has to pass; `null` switches one off, which the version's card records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictFloat, StrictInt

from raytune_ft.config.model import Strict


class GainGate(Strict):
    """The winner must be better than the base: the whole confidence interval of their difference is on the better side
    of zero, in the first of `evaluate.metrics` that isn't the loss, or else in the loss."""


class NoWorseGate(Strict):
    """The winner must not be worse than the champion: the worse end of the confidence interval of their difference is
    within the margin, in the metric of `gain`."""

    margin: StrictFloat | None = Field(None, gt=0.0)
    """How much worse than the champion the winner may be, in units of the metric. By default it follows from the test
    rows: the smallest margin within which a winner as good as the champion passes in four of five cases."""


class RetentionGate(Strict):
    """The winner must still predict general text: its perplexity is compared with the base's by `evaluate`."""

    max_ratio: StrictFloat = Field(2.0, gt=1.0)
    """Highest ratio of the winner's perplexity to the base's."""
    text: str | None = None
    """Your own text: JSONL with {"text"}, or a .txt file with blank lines between paragraphs; by default 40 short
    paragraphs that come with the package. The first 200 texts are used, and 256 tokens of each."""


class ParityGate(Strict):
    """vLLM with the registry's copy must compute the same as transformers with the run's adapter."""

    rows: StrictInt = Field(16, ge=1)
    """Rows of the test split that both engines are asked."""
    max_mean_drift: StrictFloat = Field(0.2, gt=0.0)
    """Highest mean absolute difference of log-probabilities, in nats per token; it applies separately to the tokens of
    the true answers and to those of the questions."""
    clear_margin: StrictFloat = Field(1.0, gt=0.0)
    """If transformers' likeliest token leads the second by this many nats, vLLM has to choose it too."""
    gpus: StrictInt | None = Field(None, ge=0)
    """GPUs for vLLM; by default 1 if the machine has one, else 0."""
    gpu_memory_utilization: StrictFloat | None = Field(None, gt=0.0, le=1.0)
    """Fraction of the GPU's memory for this engine, if an endpoint holds the rest; by default vLLM's."""
    timeout_s: StrictInt = Field(900, ge=10)
    """Seconds for vLLM, including its start."""


class PromotionConfig(Strict):
    """The gates of `promote`. Complete files, the same base and a format that vLLM can load are always required."""

    merge: Literal["never", "needed", "always"] = "never"
    """Merge the winner into the base's weights, and serve it as a complete model: `needed` if vLLM can't load it as an
    adapter, `always` as `promote --merge` does."""

    min_rows: StrictInt = Field(40, ge=2)
    """With fewer test rows `gain` and `no_worse` refuse. From 40 rows on their intervals are valid even if a few rows
    dominate, as with lognormal differences; the interval of an accuracy is exact for any number."""
    gain: GainGate | None = GainGate()
    """The winner must be better than the base."""
    no_worse: NoWorseGate | None = NoWorseGate()
    """The winner must not be worse than the champion."""
    retention: RetentionGate | None = RetentionGate()
    """The winner must still predict general text."""
    parity: ParityGate | None = ParityGate()
    """vLLM must compute the same as transformers."""
