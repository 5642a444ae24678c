"""The base's own loss on the validation split, which the divergence guard needs; a study's first trial measures it.

Which loss that is, the objective says (`diverges_by`).
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

from raytune_ft.data.prepared import open_prepared
from raytune_ft.errors import RaytuneError
from raytune_ft.metrics.report import METRICS, value_in
from raytune_ft.paths import read_json, write_json
from raytune_ft.training.spec import TrialSpec


def read_base_loss(spec: TrialSpec) -> float | None:
    """Returns the base loss that an earlier trial measured; None if there is none for this base and these rows."""
    try:
        found = read_json(spec.base_loss)
        metric = spec.experiment.objective.diverges_by
        loss = value_in(found, metric) if metric else None
        return loss if loss is not None and found["of"] == _measured_on(spec) else None
    except (OSError, RaytuneError, KeyError, TypeError, ValueError):  # none yet, or one that does not count
        return None


def keep_base_loss(spec: TrialSpec, loss: float) -> float:
    """Records the base loss for the other trials of the study, unless another trial was first; called on one rank.

    Returns:
        The recorded loss, which may be another trial's.
    """
    if (known := read_base_loss(spec)) is not None:
        return known
    if math.isfinite(loss):
        metrics = {spec.experiment.objective.diverges_by: loss}
        with contextlib.suppress(OSError):  # a full disk; whoever needs it then measures it anew
            write_json(
                spec.base_loss,
                {"schema": 2, METRICS: metrics, "of": _measured_on(spec)},
            )
    return loss


def _measured_on(spec: TrialSpec) -> dict[str, Any]:
    return {"base_model": spec.experiment.base_model, "data_fingerprint": open_prepared(spec.data).fingerprint}
