"""The gate `no_worse`: compares winner and champion on the same rows of the run's test split (non-inferiority)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_ft.config.experiment import Experiment
from raytune_ft.methods.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from raytune_ft.metrics.named import LOSS, less_is_better
from raytune_ft.paths import read_json
from raytune_ft.promotion.gates import Verdict
from raytune_ft.promotion.judged import too_few
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.compared import CHAMPION_KEY
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import CHAMPION

if TYPE_CHECKING:
    from raytune_ft.objectives.scoring.scores import Scores

_GATE = "no_worse"
LARGEST_LOSS, LARGEST_SCORE = 0.5, 0.2
"""Upper bounds of a margin that follows from the rows: a fraction of the champion's loss, and points of an accuracy or
F1 out of 1. With few rows, or an outlier, a wider margin would let any winner pass."""
_DECIDING = ("r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "fan_in_fan_out")


@dataclass(frozen=True)
class Champion:
    """The version that a winner is compared with; its files are verified."""

    path: Path
    manifest: Manifest

    @property
    def reference(self) -> str:
        return f"{self.manifest.adapter}@{self.manifest.version}"


def champion_of(registry: Registry, adapter: str) -> Champion | None:
    """Returns the adapter's champion, or None; raises IntegrityError if a file does not match its manifest."""
    if not registry.directory(adapter).is_dir() or (version := registry.alias(adapter, CHAMPION)) is None:
        return None
    path = registry.verified(adapter, version)
    return Champion(path, manifests.read(path))


def judge_unscored(
    champion: Champion | None, source: Path, adapter_sha256: str, base_sha256: str, rows: int, min_rows: int
) -> Verdict | None:
    """Returns the verdict if it needs no scoring: no champion, another base, the same weights, or too few rows."""
    if champion is None:
        return Verdict(_GATE, None, "there is no champion yet", {CHAMPION_KEY: None})
    numbers = {CHAMPION_KEY: champion.manifest.version}
    if champion.manifest.base_sha256 != base_sha256:
        reason = f"the champion {champion.reference} is of another base, so the two can't be compared"
        return Verdict(_GATE, False, reason, numbers)
    if champion.manifest.files.get(ADAPTER_WEIGHTS) == adapter_sha256 and _config(champion.path) == _config(source):
        return Verdict(_GATE, True, f"it has the weights of the champion {champion.reference}", numbers)
    if rows < min_rows:
        return Verdict(_GATE, False, too_few(rows, min_rows), numbers)
    return None


def judge_no_worse(
    champion: Champion, theirs: Scores, ours: Scores, metric: str, experiment: Experiment, data_fingerprint: str
) -> Verdict:
    """Judges the scores: refuses if the worse end of the confidence interval is beyond the margin."""
    from raytune_ft.evaluation.interval import paired_interval
    from raytune_ft.evaluation.margin import provable_margin

    gate, level, rows = experiment.promotion.no_worse, experiment.evaluate.confidence, len(ours.loss)
    assert gate is not None  # the gate is configured
    found = paired_interval(metric, theirs, ours, level)
    worse_by = found.high if less_is_better(metric) else -found.low
    provable = provable_margin(metric, theirs, ours, level)
    margin = gate.margin or min(provable, _largest(metric, theirs))
    reason = (
        f"against the champion {champion.reference}: {metric} {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
        f"on {rows} test rows"
    )
    if champion.manifest.data_fingerprint != data_fingerprint:
        reason += " (the champion was trained on other data, which may hold some of these rows)"
    passed = worse_by <= margin
    sure = f"{100 * (1 + level) / 2:g} %"
    if passed:
        reason += f"; worse by no more than the margin {margin:.4f}, at {sure}"
    else:
        reason += f"; it may be worse by {worse_by:.4f} at {sure}, more than the margin {margin:.4f}"
        reason += _more_rows(gate.margin, margin, provable, rows)
    numbers = {
        CHAMPION_KEY: champion.manifest.version, "metric": metric, "mean": found.mean, "low": found.low,
        "high": found.high, "level": found.level, "margin": margin, "rows": rows,
    }  # fmt: skip
    return Verdict(_GATE, passed, reason, numbers)


def _largest(metric: str, champion: Scores) -> float:
    """Returns the upper bound of the margin if the experiment gives none."""
    from raytune_ft.evaluation.metrics import metric_value

    return LARGEST_LOSS * metric_value(LOSS, champion) if metric == LOSS else LARGEST_SCORE


def _more_rows(asked: float | None, margin: float, provable: float, rows: int) -> str:
    """Returns the part of the reason that says how many rows the margin, or half of it, would need."""
    from raytune_ft.evaluation.margin import rows_for

    whose = ", which follows from the rows" if asked is None else ""
    if not (margin > 0 and 0 < provable < math.inf):  # a row has no number, or all differences are equal
        return whose
    if margin < provable:
        return f"{whose}, which needs about {rows_for(margin, provable, rows):,} test rows"
    return f"{whose}; {margin / 2:.4f} needs about {rows_for(margin / 2, provable, rows):,}" if asked is None else ""


def _config(directory: Path) -> dict[str, object]:
    config = read_json(directory / ADAPTER_CONFIG)
    values = {key: config.get(key) for key in _DECIDING}
    if isinstance(values["target_modules"], list):  # PEFT saves a set, in any order
        values["target_modules"] = sorted(values["target_modules"])
    return values
