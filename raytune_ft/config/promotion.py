"""`promotion:`: the gates that a winner has to pass; `null` switches one off, and the version's card says so."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, StrictFloat, StrictInt

from raytune_ft.config.model import Strict


class GainGate(Strict):
    """The interval of winner minus base lies wholly on the better side, on the first of `evaluate.metrics` that isn't
    the loss, or on the loss."""


class NoWorseGate(Strict):
    """The worse end of the interval of winner minus champion lies inside the margin, on the metric of `gain`."""

    margin: StrictFloat | None = Field(None, gt=0.0)
    """How much worse than the champion the winner may be at most, in the metric's own units. By default it follows from
    the test rows: the smallest that a winner as good as the champion is shown to keep in four of five cases."""


class RetentionGate(Strict):
    """The adapter has not forgotten general text: its perplexity relative to the base's, measured by `evaluate`."""

    max_ratio: StrictFloat = Field(2.0, gt=1.0)
    """Perplexity with the adapter / perplexity of the base, at most."""
    text: str | None = None
    """Your own text: JSONL with {"text"}, or a .txt file whose paragraphs are parted by blank lines; by default 40
    short paragraphs that come with the package. The first 200 texts count, and 256 tokens of each."""


class ParityGate(Strict):
    """What vLLM answers with the registry's copy is what transformers answers with the run's adapter."""

    rows: StrictInt = Field(16, ge=1)
    """Rows of the test split that both are asked."""
    max_mean_drift: StrictFloat = Field(0.2, gt=0.0)
    """Mean absolute difference of log-probabilities, in nats per token, at most; of the true answers' tokens and of the
    questions' each."""
    clear_margin: StrictFloat = Field(1.0, gt=0.0)
    """Where transformers' likeliest token leads the next by this many nats, vLLM has to choose it too."""
    gpus: StrictInt | None = Field(None, ge=0)
    """GPUs that vLLM gets here; by default one where there is one."""
    gpu_memory_utilization: StrictFloat | None = Field(None, gt=0.0, le=1.0)
    """Share of the GPU's memory for this engine, where an endpoint holds the rest; by default vLLM's."""
    timeout_s: StrictInt = Field(900, ge=10)
    """Seconds for vLLM, its start included."""


class PromotionConfig(Strict):
    """What `promote` asks of a winner. Whole files, the same base and a format that vLLM loads are always asked."""

    merge: Literal["never", "needed", "always"] = "never"
    """Write the winner into the base's weights, and serve it as a model of its own: `needed` where vLLM can't load it
    as an adapter, `always` as `promote --merge` does."""

    min_rows: StrictInt = Field(40, ge=2)
    """With fewer test rows `gain` and `no_worse` refuse. From 40 on their intervals hold also where a few rows decide,
    as with lognormal differences; accuracy's is exact at any number."""
    gain: GainGate | None = GainGate()
    """Better than the base."""
    no_worse: NoWorseGate | None = NoWorseGate()
    """Not worse than the champion."""
    retention: RetentionGate | None = RetentionGate()
    """Still fluent in general text."""
    parity: ParityGate | None = ParityGate()
    """Served as it was trained."""
