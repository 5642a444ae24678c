"""Imports what lanes' workers and trials' proxies need of Ray; it does nothing else."""

from __future__ import annotations

from importlib import import_module

for name in ("ray.train.torch", "ray.tune", "raytune_ft.execution.lanes.lane_worker"):
    import_module(name)
