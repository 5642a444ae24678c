"""A sweep's trials become a portfolio, and the next sweep tries it first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raytune_ft import api
from raytune_ft.config.portfolio import read_portfolio
from raytune_ft.execution.cluster import ray_cluster
from raytune_ft.paths import read_json
from raytune_ft.search.portfolio_build import build_portfolio, write_portfolio

RATE, RANK = "train.learning_rate", "method.r"
SPACE = {"parameters": {RATE: {"loguniform": [1e-3, 2e-2]}, RANK: {"choice": [4, 8]}}}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with ray_cluster():
        yield


def test_the_next_sweep_begins_with_what_the_first_one_found(
    cluster: None, toy_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    search = {"space": SPACE, "scheduler": {"type": "none"}, "trials": 3, "algorithm": {"type": "random"}}
    first = api.run_sweep(api.load_experiment(toy_experiment(search=search)))
    built = build_portfolio([first.run.root], 2)
    to = tmp_path / "portfolio.yaml"
    write_portfolio(built.portfolio, to)
    best = read_portfolio(to).configurations[0].parameters
    assert {key: best[key] for key in (RATE, RANK)} == {
        RATE: pytest.approx(first.winner.parameters[RATE], rel=1e-3),
        RANK: first.winner.parameters[RANK],
    }

    search |= {"algorithm": {"type": "portfolio", "file": str(to), "first": 2}}
    second = api.run_sweep(api.load_experiment(toy_experiment(name="second", search=search)))
    tried = [read_json(second.run.trial(name).config)["parameters"] for name in ("0000", "0001", "0002")]
    wanted = [{key: entry.parameters[key] for key in (RATE, RANK)} for entry in built.portfolio.configurations]
    assert len(wanted) == 1  # of three trials, the other two are the median and worse
    assert tried[0] == wanted[0]
    assert tried[1] not in wanted and tried[2] not in wanted
