"""Runs an endpoint for the length of a `with` block, with its own Ray, Serve and vLLM, and leaves no process behind."""

from __future__ import annotations

import importlib
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.execution.cluster import FORKED_STARTUP
from raytune_ft.execution.local_ray.forked.started import Forked, forked_workers
from raytune_ft.execution.local_ray.loopback import environment, ray_on_loopback
from raytune_ft.hardware.here import cpu_here, gpus_here, has_gpu
from raytune_ft.private_names import patches_wanted
from raytune_ft.serving.app import ENGINE_ENVIRONMENT, build_app
from raytune_ft.serving.engine.front_door import direct_environment, port_of_proxy
from raytune_ft.serving.engine.number_type import in_served_type
from raytune_ft.serving.gateway.key_ring import check_exposure
from raytune_ft.serving.gateway.keys import new_token
from raytune_ft.serving.local.client import openai_client
from raytune_ft.serving.local.processes import children, end
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.settings import API_KEY_VARIABLE, ServeArgs, is_loopback, read_api_key

IMPORTS = ("raytune_ft.serving.local.imports_first", "raytune_ft.serving.local.imports_ray")
"""Modules that the fork server imports because Serve's processes need what they import."""
_APP = "raytune-ft"
_ENGINE = "RegistryServer:"  # Serve LLM's deployment names begin with the name of the deployment's class
_METRICS_HOST = "127.0.0.1"  # this Ray listens on loopback only
_RAY_ENVIRONMENT = {
    **ENGINE_ENVIRONMENT,
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_HOST_IP": "127.0.0.1",
    "RAY_worker_niceness": "0",  # Ray's default of 15 would let every other program slow the endpoint down
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",  # gRPC between replicas avoids the detour through Ray's object store
}


@dataclass(frozen=True)
class Endpoint:
    """The address of a running endpoint, and how to ask it."""

    base_url: str
    """URL of the OpenAI API; it ends in /v1."""
    models: list[str]
    """Model ids, the base first."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as a bearer token."""
    metrics_url: str | None = None
    """URL of the Prometheus metrics, on loopback."""
    args: ServeArgs | None = None
    """The arguments it was started with; None if another process started it."""
    max_lora_rank: int = 0
    """The highest LoRA rank that it serves."""

    def listing_models_anew(self) -> Endpoint:
        """Returns a copy with the models that are served now."""
        return replace(self, models=_list_models(self.base_url, self.api_key))

    def answer_rows(
        self, adapter: Path, rows: list[dict[str, Any]], greedy: int, timeout_s: float = 900.0
    ) -> list[dict[str, Any]]:
        """Answers rows with the adapter in a directory, as `engine.candidate.answer_rows`; for the gate parity.

        Raises:
            RaytuneError: The engine refused, or took longer than `timeout_s`.
        """
        from ray import serve
        from ray.exceptions import RayError

        assert self.args is not None  # this process started it
        engines = (each for each in serve.status().applications[_APP].deployments if each.startswith(_ENGINE))
        name = next(each for each in engines if not each.startswith(f"{_ENGINE}Merged"))
        handle = serve.get_deployment_handle(name, _APP)
        asked = handle.answer_rows.remote(str(adapter.resolve()), rows, greedy)
        try:
            answers: list[dict[str, Any]] = asked.result(timeout_s=timeout_s)
        except (RayError, TimeoutError) as error:
            raise RaytuneError(f"vLLM: {cause(str(error)) or type(error).__name__}") from error
        return answers


@contextmanager
def served(
    args: ServeArgs,
    *,
    log: Callable[[str], None] = lambda line: None,
    start_timeout_s: float = 600.0,
    engine_log: bool = False,
    metrics_port: int = 0,
) -> Iterator[Endpoint]:
    """Serves until the block ends, on a private Ray that listens on loopback.

    Args:
        args: The endpoint's arguments.
        log: Receives progress lines for the user.
        start_timeout_s: Seconds within which the endpoint has to start.
        engine_log: Show what Ray and vLLM print.
        metrics_port: Port of the Prometheus metrics; 0 takes a free one.

    Raises:
        InputError: A setting is wrong; nothing was started.
        RaytuneError: The engine did not start.
    """
    check_exposure(args)
    api_key, own = read_api_key(args.api_key_file), {}
    if api_key is None and args.api_keys_file is not None:  # the file holds only hashes, so this process makes a key
        api_key = new_token()
        own = {API_KEY_VARIABLE: api_key}
    if api_key is None:
        log(f"no {API_KEY_VARIABLE}: each program of this machine may ask, and whoever reaches a proxy on it")
    catalog = build_catalog(args)  # raises before anything is started if something can't be served
    for reference in catalog.without_engine():
        log(f"{reference} is a model of its own; --merged {reference} starts an engine for it")
    for reference in catalog.merged:
        catalog.load_path(f"{catalog.base}:{reference}")  # verifies its files
    port = _free_port(args.host, args.port)
    metrics_port = _free_port(_METRICS_HOST, metrics_port)
    log_dir = str(Path(args.log_dir).resolve()) if args.log_dir else None  # replicas run elsewhere
    args = args.model_copy(update={"port": port, "start_attempts": 1, "log_dir": log_dir})
    ray: Any = importlib.import_module("ray")
    if ray.is_initialized():
        raise RaytuneError("serve: this process already uses a Ray; call ray.shutdown() first")
    # Serve always starts a proxy. Where other machines may connect, the proxy has the endpoint's port and the ingress
    # opens none; on loopback the ingress listens itself, and the proxy gets a port that nobody uses.
    direct = is_loopback(args.host) and patches_wanted()
    door = direct_environment(port) if direct else {}
    proxy_port = _free_port(args.host, 0) if direct else port
    started = time.monotonic()
    # The engine's variable is set here too: a process forked from the fork server has the environment of that one.
    told = {"VLLM_CPU_KVCACHE_SPACE": str(args.cpu_kv_cache_gib)}
    variables = {**_RAY_ENVIRONMENT, **FORKED_STARTUP, **told, **door, **own}
    with environment(variables), _copies(args) as copies, ray_on_loopback(), _quiet(not engine_log):
        before = children()  # the fork server is among them; its own `with` block ends it
        try:
            if args.dtype == "auto":
                devices = [cpu_here()] if args.gpus == 0 else gpus_here() or [cpu_here()]
                args = in_served_type(args, catalog.trained_in, devices)
            log(f"starting Ray and vLLM for {args.base_model} in {args.dtype}")
            _start(ray, args, engine_log, proxy_port, metrics_port, copies)
            base_url = f"http://{reachable(args.host)}:{port}/v1"
            _wait_until_running(started + start_timeout_s)
            models = _list_models(base_url, api_key)
            log(f"answering at {base_url} after {time.monotonic() - started:.0f} s")
            metrics_url = f"http://{_METRICS_HOST}:{metrics_port}/metrics"
            yield Endpoint(base_url, models, api_key, metrics_url, args, catalog.max_lora_rank)
        finally:
            ours = children() - before  # listed before Ray ends: a worker whose raylet has ended has another parent
            try:
                _stop(ray, log)
            finally:
                if left := end(ours | (children() - before)):
                    log(f"ended {left} processes that Ray left behind")


@contextmanager
def _copies(args: ServeArgs) -> Iterator[Forked | None]:
    """Starts a fork server that has imported vLLM, so that Serve's processes need not; yields None with a GPU."""
    if args.gpus or (args.gpus is None and has_gpu()):
        yield None
        return
    with forked_workers(IMPORTS) as copies:
        yield copies


def _start(
    ray: Any, args: ServeArgs, engine_log: bool, proxy_port: int, metrics_port: int, copies: Forked | None
) -> None:
    from ray import serve

    ray.init(
        address="local",
        num_cpus=max(2, 1 + len(args.merged), os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=engine_log,
        logging_level="info" if engine_log else "error",
        _metrics_export_port=metrics_port,
    )
    if copies is not None:
        copies.get_ready()
    check_gpus(args, int(ray.cluster_resources().get("GPU", 0)))
    quiet = {"log_level": "INFO" if engine_log else "ERROR"}
    where = {"host": args.host, "port": port_of_proxy(args.port, proxy_port)}
    serve.start(proxy_location="HeadOnly", http_options=where, logging_config={**quiet})
    target = serve.RunTarget(target=build_app(args), name=_APP, route_prefix="/")
    serve.run_many([target], wait_for_applications_running=False, wait_for_ingress_deployment_creation=False)


def check_gpus(args: ServeArgs, there: int) -> None:
    """Raises InputError if the `there` GPUs of this machine are too few, because Ray would wait for more forever."""
    engines = args.replicas * (1 + len(set(args.merged)))
    needed = engines * (args.gpus if args.gpus is not None else min(there, 1))
    if needed > there:
        remedy = "lower gpus or replicas"
        if args.merged:
            remedy = "serve the merged version alone: --base-model REGISTRY/ADAPTER/VERSION"
        raise InputError("serve", f"{engines} engines need {needed} GPUs, and this machine has {there}", remedy)


def _wait_until_running(deadline: float) -> None:
    from ray import serve

    status, why = "NOT_STARTED", ""
    while time.monotonic() < deadline:
        application = serve.status().applications.get(_APP)
        if application is not None:
            status = str(application.status.value)
            why = "\n".join([application.message, *(each.message for each in application.deployments.values())])
        if status == "RUNNING":
            return
        if status in ("DEPLOY_FAILED", "UNHEALTHY"):
            break
        time.sleep(0.5)
    raise RaytuneError(f"serve: the endpoint is {status}: {cause(why)}; --engine-log shows more")


def cause(message: str) -> str:
    """Returns the last error that a traceback names as one line, or else the end of the message."""
    found = list(re.finditer(r"^\s*(?:[\w.]+(?:Error|Exception)\b.*)", message, re.MULTILINE))
    text = message[found[-1].start() :] if found else message[-600:]
    return " ".join(text.split())[:600] or "no reason given"


def _list_models(base_url: str, api_key: str | None) -> list[str]:
    return [model.id for model in openai_client(base_url, api_key, retries=5).models.list()]


def _stop(ray: Any, log: Callable[[str], None]) -> None:
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    try:
        if ray.is_initialized() and _APP in serve.status().applications:
            serve.delete(_APP)  # lets the engine shut down cleanly; the rest of Serve ends with Ray
    except (RayError, RayServeException, TimeoutError) as error:
        log(f"Serve did not stop by itself: {' '.join(str(error).split())[:200]}")
    finally:
        ray.shutdown()


def reachable(host: str) -> str:
    """Returns the host part of a URL by which a client on this machine reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _free_port(host: str, port: int) -> int:
    """Checks that the port is free and returns it; for 0 returns a free port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"{host}:{port}", f"can't listen there ({error.strerror})", "choose another --port"
            ) from error
        return int(probe.getsockname()[1])


@contextmanager
def _quiet(wanted: bool) -> Iterator[None]:
    """Hides log lines of Ray, vLLM and the HTTP client below the level of warnings."""
    root = logging.getLogger()
    handlers, root_level = root.handlers[:], root.level
    with environment({"VLLM_LOGGING_LEVEL": "WARNING"} if wanted else {}):
        importlib.import_module("raytune_ft.serving.engine.ray_llm")
    if wanted:  # importing Ray Serve LLM reconfigures the process's root logger
        root.handlers[:] = handlers
        root.setLevel(root_level)
    loggers = [logging.getLogger(name) for name in ("ray", "ray.serve", "httpx2")] if wanted else []
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)
