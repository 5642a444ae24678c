"""The Serve application, for `raytune-ft serve` and for a Serve config's `import_path` alike."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from raytune_ft.methods.weights.base_weights import base_directory
from raytune_ft.serving.engine.number_type import devices_of_cluster, in_served_type
from raytune_ft.serving.gateway.key_ring import check_exposure
from raytune_ft.serving.models.catalog import Catalog, build_catalog
from raytune_ft.serving.settings import ServeArgs, parse_serve_args

if TYPE_CHECKING:
    from ray.serve import Application

ENGINE_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # everything that is served lies on disk
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "0",  # vLLM would join a request's model name to a path without checking it
}

VLLM_MAX_NUM_SEQS = 256  # vLLM 0.29's default on most GPUs
IMBALANCED_REQUESTS = 8  # a replica that has this many more requests than another one is not asked


def build_app(args: ServeArgs | dict[str, Any]) -> Application:
    """Builds the Serve application; Ray must be running already.

    Args:
        args: `ServeArgs`, or a mapping of its fields, as the `args` of a Serve config file.

    Raises:
        InputError: A setting is wrong, the base or an adapter is missing, or other machines could reach the endpoint
            without an API key.
    """
    args = parse_serve_args(args)
    check_exposure(args)
    catalog = build_catalog(args)
    from ray.serve.llm import LLMConfig

    from raytune_ft.serving.engine.ray_llm import bind

    gpus = args.gpus if args.gpus is not None else _gpus_of_cluster()
    if args.dtype == "auto":
        args = in_served_type(args, catalog.trained_in, devices_of_cluster(gpus))
    return bind(args, catalog, [LLMConfig(**engine_settings(args, catalog, gpus, model)) for model in catalog.engines])


def engine_settings(args: ServeArgs, catalog: Catalog, gpus: int, model: str | None = None) -> dict[str, Any]:
    """Returns the fields of Ray Serve LLM's LLMConfig, which say how vLLM is started for one engine of the endpoint.

    Args:
        args: The endpoint's arguments.
        catalog: The models that the endpoint serves.
        gpus: GPUs of one replica; 0 runs the engine on the CPU.
        model: Id of a merged version; by default the base with all its adapters.
    """
    model = model or catalog.base
    adapters = catalog.registry is not None and model == catalog.base
    source = base_directory(args.base_model) if model == catalog.base else catalog.load_path(model)
    on_cpu = gpus == 0
    engine: dict[str, Any] = {
        "dtype": args.dtype,
        "max_model_len": args.max_model_len,
        "enforce_eager": on_cpu if args.enforce_eager is None else args.enforce_eager,
        "trust_remote_code": args.trust_remote_code,
    }
    if gpus > 1:
        engine["tensor_parallel_size"] = gpus
    chosen = {"gpu_memory_utilization": args.gpu_memory_utilization, "max_num_seqs": args.max_num_seqs}
    engine |= {name: value for name, value in chosen.items() if value is not None}
    if adapters:
        held = catalog.capacity
        engine |= {"enable_lora": True, "max_loras": held.per_batch, "max_lora_rank": catalog.max_lora_rank}
        # Serve must evict a version before vLLM does: Serve verifies the files again on the next request, while vLLM
        # reloads what it has evicted by itself, unverified.
        engine["max_cpu_loras"] = held.loaded + held.per_batch
        if on_cpu:
            engine["worker_extension_cls"] = "raytune_ft.serving.engine.cpu_lora.NoAdapterNoChange"
    environment = dict(ENGINE_ENVIRONMENT)
    if on_cpu:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(args.cpu_kv_cache_gib)
    return {
        "model_loading_config": {
            "model_id": model,
            "model_source": str(source.resolve()),
        },
        "engine_kwargs": engine,
        "lora_config": {"max_num_adapters_per_replica": catalog.capacity.loaded} if adapters else None,
        "placement_group_config": {"bundles": [{"CPU": 1}] if on_cpu else [{"GPU": 1}] * gpus},
        "deployment_config": {
            # The bundles already reserve the engine's resources; the replica around it only waits.
            "ray_actor_options": {"num_cpus": 0},
            "max_constructor_retry_count": args.start_attempts,
            **_replicas(args),
        },
        "runtime_env": {"env_vars": environment},
    }


def _replicas(args: ServeArgs) -> dict[str, Any]:
    """Returns the deployment options that say how many replicas there are and which of them gets a request."""
    options: dict[str, Any] = {"num_replicas": args.replicas}
    if args.autoscaling is not None:
        options = {"autoscaling_config": args.autoscaling.model_dump()}
    if args.max_surge_percent:
        options["max_surge_percent"] = args.max_surge_percent
    # Serve LLM sets no limit by default; all requests for an adapter would then go to the first replica that loaded it.
    several = args.replicas > 1 or args.autoscaling is not None
    if limit := args.max_ongoing_requests or (several and (args.max_num_seqs or VLLM_MAX_NUM_SEQS)):
        options["max_ongoing_requests"] = limit
    if args.router == "prefix":
        options["request_router_config"] = {
            "request_router_class": "raytune_ft.serving.engine.prefix_router.AdapterPrefixRouter",
            # By Ray's defaults a request follows its prefix however busy that replica is, and no prefix is evicted.
            "request_router_kwargs": {"imbalanced_threshold": IMBALANCED_REQUESTS, "do_eviction": True},
        }
    return options


def _gpus_of_cluster() -> int:
    ray: Any = importlib.import_module("ray")
    return int(ray.cluster_resources().get("GPU", 0) >= 1)
