"""Imported for what it imports: what lanes' workers and trials' proxies need of Ray."""

from __future__ import annotations

import ray.train.torch
import ray.tune  # noqa: F401

import raytune_ft.execution.lane_worker  # noqa: F401
