"""The gate `no_worse`: winner against champion on the same rows of the run's test split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_ft.config.experiment import Experiment
from raytune_ft.metrics.named import LOSS, less_is_better
from raytune_ft.paths import read_json
from raytune_ft.promotion.gates import Verdict
from raytune_ft.promotion.judged import too_few
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.compared import CHAMPION_KEY
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import CHAMPION
from raytune_ft.training.weights.peft_files import ADAPTER_CONFIG, ADAPTER_WEIGHTS

if TYPE_CHECKING:
    from raytune_ft.evaluation.scoring import Scores

_GATE = "no_worse"
LARGEST_LOSS, LARGEST_SCORE = 0.5, 0.2
"""A margin that follows from few rows, or from one that stands out, ends here: a share of the champion's loss, and
points of an accuracy or F1 out of 1. Beyond, the rows can't show that a winner is any good."""
_DECIDING = ("r", "lora_alpha", "use_rslora", "use_dora", "target_modules", "fan_in_fan_out")


@dataclass(frozen=True)
class Champion:
    """The version that a winner is measured against, its files verified."""

    path: Path
    manifest: Manifest

    @property
    def reference(self) -> str:
        return f"{self.manifest.adapter}@{self.manifest.version}"


def champion_of(registry: Registry, adapter: str) -> Champion | None:
    """The adapter's champion, or None; raises IntegrityError where its files are not what they were."""
    if not registry.directory(adapter).is_dir() or (version := registry.alias(adapter, CHAMPION)) is None:
        return None
    path = registry.verified(adapter, version)
    return Champion(path, manifests.read(path))


def judge_unscored(
    champion: Champion | None, source: Path, adapter_sha256: str, base_sha256: str, rows: int, min_rows: int
) -> Verdict | None:
    """The verdict where nothing has to be scored for it, else None."""
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
    """Refuses where the worse end of the interval does not lie inside the margin."""
    from raytune_ft.evaluation.interval import paired_interval
    from raytune_ft.evaluation.margin import provable_margin

    gate, level, rows = experiment.promotion.no_worse, experiment.evaluate.confidence, len(ours.loss)
    assert gate is not None  # it is wanted
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
    """The greatest margin that is taken where the experiment gives none."""
    from raytune_ft.evaluation.metrics import metric_value

    return LARGEST_LOSS * metric_value(LOSS, champion) if metric == LOSS else LARGEST_SCORE


def _more_rows(asked: float | None, margin: float, provable: float, rows: int) -> str:
    """How many rows the margin needs, or half of it where these show it."""
    from raytune_ft.evaluation.margin import rows_for

    whose = ", which follows from the rows" if asked is None else ""
    if not (margin > 0 and 0 < provable < math.inf):  # a row without a number, or rows that are all alike
        return whose
    if margin < provable:
        return f"{whose}, which needs about {rows_for(margin, provable, rows):,} test rows"
    return f"{whose}; {margin / 2:.4f} needs about {rows_for(margin / 2, provable, rows):,}" if asked is None else ""


def _config(directory: Path) -> dict[str, object]:
    config = read_json(directory / ADAPTER_CONFIG)
    values = {key: config.get(key) for key in _DECIDING}
    if isinstance(values["target_modules"], list):  # PEFT saves a set
        values["target_modules"] = sorted(values["target_modules"])
    return values
