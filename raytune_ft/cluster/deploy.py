"""Deploys the endpoint to a running Ray cluster through Serve's REST API. Read against ray 2.60.0.

That API takes the whole list of applications and deletes those that are missing from it. So the present list is read,
one entry is changed, and the list is sent back. Applications that a program started (`serve.run`) are not in the list
and are not touched.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from raytune_ft.cluster.connection import DEFAULT_ADDRESS, reach, request_errors
from raytune_ft.cluster.serve_file import ServeFile, for_cluster
from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.names import check_name
from raytune_ft.serving.local.session import cause, reachable
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs, is_loopback

if TYPE_CHECKING:
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

POLL_S = 1.0
_REDACTED = "<redacted>"
_FAILED = ("DEPLOY_FAILED", "UNHEALTHY")


@dataclass(frozen=True)
class Deployed:
    """An endpoint on a cluster."""

    name: str
    base_url: str
    """URL of the OpenAI API, ending in /v1; if it listens on loopback, only the cluster's head node can reach it."""
    others: tuple[str, ...]
    """Names of the other applications on the cluster."""
    shared_paths: tuple[str, ...]
    """Absolute paths that every node must see."""


def deploy(
    args: ServeArgs,
    file: ServeFile,
    *,
    address: str = DEFAULT_ADDRESS,
    log: Callable[[str], None] = lambda line: None,
    start_timeout_s: float = 1800.0,
) -> Deployed:
    """Deploys the application, or updates the one of that name, and waits until it runs.

    Args:
        args: The endpoint's settings; host and port are used only if no Serve runs on the cluster yet.
        file: The application's name, route and other fields.
        address: URL of the cluster's dashboard.
        log: Receives progress lines for the user.
        start_timeout_s: Seconds within which it has to run.

    Raises:
        InputError: It can't be deployed there; nothing was changed.
        RaytuneError: It was deployed but does not run.
    """
    check_name("--name", file.name)
    if not file.route_prefix.startswith("/"):
        raise InputError("route_prefix", f"{file.route_prefix!r} does not begin with a slash", "write /name")
    args, shared = for_cluster(args)
    _check_exposure(args, "")
    client = _connect(address)
    running = _details(client, address)
    http = {**file.cluster.get("http_options", {}), "host": args.host, "port": args.port}
    if running.get("http_options"):  # Serve runs already, so that its host and port stay
        http = running["http_options"]
        args = args.model_copy(update={"host": http["host"], "port": http["port"]})
        _check_exposure(args, "Serve listens there already: ")
    application = {
        **file.application, "name": file.name, "route_prefix": file.route_prefix, "args": args.model_dump(mode="json"),
    }  # fmt: skip
    kept = _kept(running, file.name)
    _check_room(running, file)
    if shared:
        log(f"every node must see {', '.join(shared)}")
    config = {"proxy_location": "HeadOnly", **file.cluster, "http_options": http}
    since = float((running["applications"].get(file.name) or {}).get("last_deployed_time_s", 0.0))
    _put(client, address, running, [*kept, application], config)
    _wait_until_running(client, address, file.name, since, time.monotonic() + start_timeout_s, log)
    host = http["host"] if is_loopback(http["host"]) else urlsplit(address).hostname or http["host"]
    base_url = f"http://{reachable(host)}:{http['port']}{file.route_prefix.rstrip('/')}/v1"
    others = (other for other, found in running["applications"].items() if found["status"] != "DELETING")
    return Deployed(file.name, base_url, tuple(sorted(set(others) - {file.name})), shared)


def remove(
    name: str,
    *,
    address: str = DEFAULT_ADDRESS,
    log: Callable[[str], None] = lambda line: None,
    timeout_s: float = 300.0,
) -> None:
    """Removes the application and waits until it is gone.

    Args:
        name: Name of the application.
        address: URL of the cluster's dashboard.
        log: Receives progress lines for the user.
        timeout_s: Seconds within which it has to be gone.

    Raises:
        InputError: There is no application of that name, or a program started it.
        RaytuneError: It is still there after `timeout_s`.
    """
    client = _connect(address)
    running = _details(client, address)
    if name not in running["applications"]:
        known = ", ".join(running["applications"]) or "none"
        raise InputError(address, f"runs no application {name!r} (runs {known})", "choose it with --name")
    _check_declared(running, name)
    _put(client, address, running, _kept(running, name), {})
    deadline, status = time.monotonic() + timeout_s, ""
    while found := _details(client, address)["applications"].get(name):
        if status != (status := str(found["status"])):
            log(f"{name} is {status}")
        if time.monotonic() > deadline:
            raise RaytuneError(f"{address}: {name} is still {status}; ray's dashboard says why")
        time.sleep(POLL_S)


def _connect(address: str) -> ServeSubmissionClient:
    reach(address)
    from ray.dashboard.modules.serve.sdk import ServeSubmissionClient

    with request_errors(address):
        return ServeSubmissionClient(address)


def _details(client: ServeSubmissionClient, address: str) -> dict[str, Any]:
    with request_errors(address):
        found: dict[str, Any] = client.get_serve_details()
    return found


def _put(
    client: ServeSubmissionClient,
    address: str,
    running: Mapping[str, Any],
    applications: list[dict[str, Any]],
    config: Mapping[str, Any],
) -> None:
    kept = {name: running[name] for name in ("proxy_location", "http_options", "grpc_options") if running.get(name)}
    if running.get("target_capacity") is not None:
        kept["target_capacity"] = running["target_capacity"]
    with request_errors(address):
        client.deploy_applications({**config, **kept, "applications": applications})


def _kept(running: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Returns the other applications of the list, unchanged."""
    kept = []
    for other, found in running["applications"].items():
        config = found.get("deployed_app_config")
        if other == name or found.get("source") != "declarative" or found["status"] == "DELETING":
            continue
        if config is None or _holds(config, _REDACTED):
            what = "can't be sent back as it was, because its configuration is not shown"
            raise InputError(other, what, "deploy all of them out of one file, with: serve deploy FILE")
        kept.append(config)
    return kept


def _holds(value: Any, text: str) -> bool:
    if isinstance(value, dict):
        return any(_holds(each, text) for each in value.values())
    if isinstance(value, list):
        return any(_holds(each, text) for each in value)
    return bool(value == text)


def _check_room(running: Mapping[str, Any], file: ServeFile) -> None:
    if file.name in running["applications"]:
        _check_declared(running, file.name)
    for other, found in running["applications"].items():
        if other != file.name and found.get("route_prefix") == file.route_prefix:
            what = f"the application {other!r} answers at {file.route_prefix} already"
            raise InputError("--route-prefix", what, f"choose another, e.g. /{file.name}")


def _check_declared(running: Mapping[str, Any], name: str) -> None:
    if running["applications"][name].get("source") != "declarative":
        what = "was started by a program, with serve.run"
        raise InputError(name, what, f"end it there, with serve.delete({name!r}), or choose another --name")


def _check_exposure(args: ServeArgs, why: str) -> None:
    """Refuses an exposed endpoint without any source of API keys; the replicas check themselves for a valid key."""
    if is_loopback(args.host) or args.api_key_file or args.api_keys_file or os.environ.get(API_KEY_VARIABLE):
        return
    raise InputError(
        f"host {args.host}",
        f"{why}it is reachable by others and no API key is set",
        f"set {API_KEY_VARIABLE} here and where Ray runs, or name --api-keys-file, a path on the nodes",
    )


def _wait_until_running(
    client: ServeSubmissionClient, address: str, name: str, since: float, deadline: float, log: Callable[[str], None]
) -> None:
    shown, why, status = "", "", "NOT_STARTED"
    while time.monotonic() < deadline:
        found = _details(client, address)["applications"].get(name)
        if found is not None and float(found["last_deployed_time_s"]) > since:
            status = str(found["status"])
            why = "\n".join([found["message"], *(each["message"] for each in found["deployments"].values())])
            if shown != (shown := _progress(name, found)):
                log(shown)
            if status == "RUNNING":
                return
            if status in _FAILED:
                break
        time.sleep(POLL_S)
    raise RaytuneError(
        f"{address}: {name} is {status}: {cause(why)}; take it away with: raytune-ft serve --remove --name {name}"
    )


def _progress(name: str, found: Mapping[str, Any]) -> str:
    parts = []
    for deployment, each in found["deployments"].items():
        ready = sum(replica["state"] == "RUNNING" for replica in each["replicas"])
        parts.append(f"{deployment} {ready}/{max(len(each['replicas']), each.get('target_num_replicas') or 0)}")
    return f"{name} is {found['status']}" + (f": {', '.join(parts)} replicas" if parts else "")
