"""The dashboard shows what the endpoint exports."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from raytune_ft.serving.records.metrics import ENGINE_METRICS, METRICS

REPOSITORY = Path(__file__).parents[4]
LABELS = {name: {*metric.labels, "le"} for metric in METRICS for name in metric.exported}


@pytest.fixture(scope="module")
def dashboard() -> Any:
    return json.loads((REPOSITORY / "serve" / "grafana.json").read_text())


def queries(dashboard: Any) -> list[str]:
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def test_every_metric_that_is_queried_is_exported(dashboard: Any) -> None:
    variables = [each["query"] for each in dashboard["templating"]["list"]]
    asked = set(re.findall(r"\bray_\w+", " ".join(queries(dashboard) + variables)))
    assert asked and asked <= LABELS.keys() | set(ENGINE_METRICS)


def test_every_metric_of_ours_is_shown(dashboard: Any) -> None:
    asked = " ".join(queries(dashboard))
    assert [metric.name for metric in METRICS if not any(name in asked for name in metric.exported)] == []


def test_a_query_asks_for_labels_that_its_metrics_have(dashboard: Any) -> None:
    for query in queries(dashboard):
        known = set.union(*(LABELS.get(name, {"model"}) for name in re.findall(r"\bray_\w+", query)))
        by = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        selected = {label for group in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+)=", group)}
        assert by | selected <= known, query


def test_brackets_of_each_query_are_closed(dashboard: Any) -> None:
    for query in queries(dashboard):
        count = Counter(query)
        assert count["("] == count[")"] and count["{"] == count["}"] and count["["] == count["]"], query


def test_panels_have_places_of_their_own(dashboard: Any) -> None:
    cells: Counter[tuple[int, int]] = Counter()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells.update((place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"]))
        assert place["x"] + place["w"] <= 24
    assert max(cells.values()) == 1
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_metric_stands_on_the_page_of_the_endpoint() -> None:
    page = (REPOSITORY / "docs" / "endpoint.md").read_text()
    assert [
        metric.name for metric in METRICS if not any(f"`{name}`" in page for name in _documented(metric.name))
    ] == []


def _documented(name: str) -> list[str]:
    return [f"ray_{name}", f"ray_{name}_total"]
