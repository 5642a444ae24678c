"""Proxies start one after another, so that they do not take the cores from the lanes."""

from __future__ import annotations

from raytune_ft.search.trials import PROXY_CORE_S, one_after_another


def test_a_proxy_may_start_for_each_lane_at_once_and_then_one_more_whenever_the_node_can_bear_it() -> None:
    now = 100.0
    may_run = one_after_another(2, cores=2, clock=lambda: now)
    assert may_run() == 2
    now += PROXY_CORE_S / 2 - 0.01
    assert may_run() == 2
    now += 0.02
    assert may_run() == 3
    now += 10 * PROXY_CORE_S
    assert may_run() == 23


def test_a_node_with_more_cores_starts_them_sooner() -> None:
    now = 0.0
    may_run = one_after_another(1, cores=100, clock=lambda: now)
    now = 1.0
    assert may_run() == 1 + 100 / PROXY_CORE_S
