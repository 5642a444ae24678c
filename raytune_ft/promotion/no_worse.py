"""The gate `no_worse`: winner against champion on the same rows of the run's test split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raytune_ft.config.experiment import Evaluate
from raytune_ft.config.promotion import NoWorseGate
from raytune_ft.paths import read_json
from raytune_ft.promotion.gates import Verdict
from raytune_ft.promotion.judged import less_is_better
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.adapter import CONFIG_NAME, WEIGHTS_NAME
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import Registry
from raytune_ft.registry.traffic import CHAMPION

if TYPE_CHECKING:
    from raytune_ft.evaluation.scoring import Scores

_GATE = "no_worse"
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


def judge_unscored(champion: Champion | None, source: Path, adapter_sha256: str, base_sha256: str) -> Verdict | None:
    """The verdict where nothing has to be scored for it, else None."""
    if champion is None:
        return Verdict(_GATE, None, "there is no champion yet")
    if champion.manifest.base_sha256 != base_sha256:
        reason = f"the champion {champion.reference} is of another base, so the two can't be compared"
        return Verdict(_GATE, False, reason, {"champion": champion.manifest.version})
    if champion.manifest.files.get(WEIGHTS_NAME) == adapter_sha256 and _config(champion.path) == _config(source):
        reason = f"it has the weights of the champion {champion.reference}"
        return Verdict(_GATE, True, reason, {"champion": champion.manifest.version})
    return None


def judge_no_worse(
    champion: Champion,
    theirs: Scores,
    ours: Scores,
    metric: str,
    gate: NoWorseGate,
    evaluate: Evaluate,
    seed: int,
    data_fingerprint: str,
) -> Verdict:
    """Refuses where the interval lies wholly on the worse side, or the mean is worse by more than the margin."""
    from raytune_ft.evaluation.bootstrap import paired_bootstrap

    found = paired_bootstrap(
        metric, theirs, ours, resamples=evaluate.bootstrap_samples, level=evaluate.confidence, seed=seed
    )
    less = less_is_better(metric)
    worse_by = found.mean if less else -found.mean
    wholly = found.low > 0 if less else found.high < 0
    passed = not wholly and worse_by <= gate.margin
    reason = (
        f"against the champion {champion.reference}: {metric} {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}], "
        f"on {len(ours.loss)} test rows"
    )
    if champion.manifest.data_fingerprint != data_fingerprint:
        reason += " (the champion was trained on other data, which may hold some of these rows)"
    if wholly:
        reason += "; it is worse"
    elif not passed:
        reason += f"; it may be worse by {gate.margin:g} at most"
    numbers = {
        "champion": champion.manifest.version, "metric": metric, "mean": found.mean, "low": found.low,
        "high": found.high, "level": found.level, "margin": gate.margin, "rows": len(ours.loss),
    }  # fmt: skip
    return Verdict(_GATE, passed, reason, numbers)


def _config(directory: Path) -> dict[str, object]:
    config = read_json(directory / CONFIG_NAME)
    values = {key: config.get(key) for key in _DECIDING}
    if isinstance(values["target_modules"], list):  # PEFT saves a set
        values["target_modules"] = sorted(values["target_modules"])
    return values
