"""More than the cluster has is refused before the first trial (fault 13)."""

from __future__ import annotations

import pytest
import ray

from raytune_ft.config.experiment import Experiment
from raytune_ft.config.training import Lane
from raytune_ft.errors import InputError
from raytune_ft.execution.cluster import check_resources
from raytune_ft.execution.lanes.lanes import lane_count


@pytest.fixture
def cluster_of(monkeypatch: pytest.MonkeyPatch):
    def has(**resources: float) -> None:
        monkeypatch.setattr(ray, "cluster_resources", lambda: resources)

    return has


def experiment(max_concurrent: int | None, **resources: object) -> Experiment:
    space = {"parameters": {"method.r": {"choice": [8]}}}
    return Experiment.model_validate(
        {
            "name": "e",
            "base_model": "b",
            "data": {"train": "t"},
            "resources": resources,
            "search": max_concurrent and {"space": space, "max_concurrent": max_concurrent},
        }
    )


def test_what_fits_is_let_through(cluster_of) -> None:
    cluster_of(CPU=4.0, GPU=1.0)
    check_resources(experiment(2, workers=2))
    check_resources(experiment(1, workers=2, gpus_per_worker=0.5))
    check_resources(experiment(None, workers=4))


@pytest.mark.parametrize(
    ("max_concurrent", "resources", "line"),
    [
        (
            2,
            {"workers": 3},
            "resources: 2 trial(s) at once x 3 workers x 1 CPU = 6 CPU, and the cluster has 4; "
            "lower resources.workers or search.max_concurrent, or add nodes",
        ),
        (
            1,
            {"workers": 2, "gpus_per_worker": 1},
            "1 trial(s) at once x 2 workers x 1 GPU = 2 GPU, and the cluster has 0",
        ),
        (1, {"workers": 1, "cpus_per_worker": 4.5}, "x 4.5 CPU = 4.5 CPU, and the cluster has 4"),
        (None, {"workers": 5}, "1 trial(s) at once x 5 workers x 1 CPU = 5 CPU, and the cluster has 4"),
    ],
)
def test_what_does_not_fit_is_refused_with_asked_and_available(cluster_of, max_concurrent, resources, line) -> None:
    cluster_of(CPU=4.0, memory=1e9)
    with pytest.raises(InputError) as caught:
        check_resources(experiment(max_concurrent, **resources))
    assert line in str(caught.value) and caught.value.exit_code == 2


def test_lanes_take_room_whatever_the_trials_at_once(cluster_of) -> None:
    cluster_of(CPU=4.0)
    check_resources(experiment(8, workers=2), lanes=2)
    with pytest.raises(InputError) as caught:
        check_resources(experiment(1, workers=2), lanes=3)
    assert "3 lane(s) x 2 workers x 1 CPU = 6 CPU, and the cluster has 4" in str(caught.value)
    assert "runner.lanes" in str(caught.value)


@pytest.mark.parametrize(
    ("max_concurrent", "resources", "asked", "lanes"),
    [
        (8, {}, None, 7),  # of 4 + 3 CPUs
        (3, {}, None, 3),  # no more than trials at once
        (8, {"cpus_per_worker": 2}, None, 3),  # 2 + 1: a worker does not span nodes
        (8, {"workers": 2, "cpus_per_worker": 2}, None, 1),  # a group may
        (8, {"gpus_per_worker": 0.25}, None, 4),
        (8, {"cpus_per_worker": 5}, None, 1),  # a node that is to join
        (None, {}, None, 1),
        (1, {}, 2, 2),
    ],
)
def test_a_study_gets_as_many_lanes_as_it_can_use(monkeypatch, max_concurrent, resources, asked, lanes) -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"Alive": True, "Resources": {"CPU": 3.0}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    assert lane_count(experiment(max_concurrent, **resources), Lane(lanes=asked)) == lanes
