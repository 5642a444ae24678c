"""Starts a private Ray without the processes that only clusters, dashboards and drivers that show logs need.

`ray.init` waits for the first of them, and each imports Ray: without them the first trial starts 1.4 s sooner, for 2
core-seconds less (2 cores). Read against ray 2.60.0; where another version lacks these names, all of them start.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from raytune_ft.private_names import all_there, patches_wanted

NAMES = (
    "ray._private.parameter:RayParams.update_if_absent",
    "ray._private.services:start_api_server",
    "ray._private.utils:get_dashboard_dependency_error",
)


@contextmanager
def minimal_ray(*, logs: bool) -> Iterator[None]:
    """Makes `ray.init` in this block start no API server and no autoscaler's monitor.

    Args:
        logs: Whether to keep the process that sends the workers' output to the driver.
    """
    if not patches_wanted() or not all_there(*NAMES, without="Ray starts all of its processes, and takes longer"):
        yield
        return
    parameters = importlib.import_module("ray._private.parameter").RayParams
    services = importlib.import_module("ray._private.services")
    utils = importlib.import_module("ray._private.utils")
    update = parameters.update_if_absent

    def update_if_absent(self: Any, **values: Any) -> None:
        if "include_log_monitor" in values:  # is passed once, when a node is about to start
            values["include_log_monitor"] = logs
            self.no_monitor = True
        update(self, **values)

    def no_api_server(*_: Any, **__: Any) -> tuple[None, None]:
        return None, None  # as if it could not start, which Ray tolerates

    def no_dashboard() -> str:
        return "not wanted"  # as if its packages were missing: the node's agent then leaves its parts out

    with (
        mock.patch.object(parameters, "update_if_absent", update_if_absent),
        mock.patch.object(services, "start_api_server", no_api_server),
        mock.patch.object(utils, "get_dashboard_dependency_error", no_dashboard),
    ):
        yield
