"""A replica of Ray Serve LLM that holds an engine, taught to take adapters and models from a registry.

Read against ray 2.60.0. With `ray_llm`, the only file that touches `ray.llm._internal`. Ray's own adapter loader takes
cloud URLs alone.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections import defaultdict
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, cast

from ray import serve
from ray.llm._internal.common.models import global_id_manager
from ray.llm._internal.serve.core.configs.llm_config import DiskMultiplexConfig
from ray.llm._internal.serve.utils.lora_serve_utils import LoraModelLoader
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment
from ray.serve.llm.deployment import LLMServer

from raytune_ft.execution.local_ray.loopback import keep_replica_on_loopback
from raytune_ft.serving.engine.batches import batches
from raytune_ft.serving.engine.candidate import answer_rows
from raytune_ft.serving.failures import is_engine_gone
from raytune_ft.serving.models.catalog import Catalog
from raytune_ft.serving.models.champions import NotLoadedError
from raytune_ft.serving.records.exception_lines import keep_texts_out_of_logs

_BATCH_PAUSE_S = 0.05
_LOADS_AT_ONCE = 4


class RegistryLoader(LoraModelLoader):
    """Gives vLLM the registry's own directory of a version, after its manifest was verified."""

    def __init__(self, catalog: Catalog, **options: Any) -> None:
        super().__init__(**options)
        self._catalog, self._threads = catalog, ThreadPoolExecutor(_LOADS_AT_ONCE, "raytune-ft-load")

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        # On threads of its own: where the storage hangs, those that the rest of the replica uses stay free.
        path = await asyncio.get_running_loop().run_in_executor(self._threads, self._catalog.load_path, lora_model_id)
        return DiskMultiplexConfig(
            model_id=lora_model_id,
            max_total_tokens=None,
            local_path=str(path),
            lora_assigned_int_id=global_id_manager.next(),
        )


class RegistryServer(LLMServer):
    """The replica that holds the engine."""

    async def __init__(self, llm_config: LLMConfig, *, catalog: Catalog) -> None:  # type: ignore[misc]  # Serve awaits it
        keep_replica_on_loopback()
        self._catalog = catalog
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        loading: Any = llm_config.model_loading_config
        if loading.model_id != catalog.base:  # a merged version: here, on this node, proved to be what was promoted
            path = await asyncio.to_thread(catalog.load_path, loading.model_id)
            loading.model_source = str(path.resolve())
        await super().__init__(llm_config)
        keep_texts_out_of_logs()  # why a start failed is told in full

    async def can_answer(self) -> bool:
        """Goes into the engine's own loop and back: a process that merely lives does not count."""
        await self.check_health()
        return not await self.is_sleeping()

    async def answer_rows(self, adapter: str, rows: list[dict[str, Any]], greedy: int) -> list[dict[str, Any]]:
        """What the engine makes of held-out rows with the adapter in a directory of this node, for the gate parity."""
        number = global_id_manager.next()
        name = f"candidate-{number}-{uuid.uuid4().hex}"  # no client can ask for it: ids begin with the base's
        found = DiskMultiplexConfig(
            model_id=name, max_total_tokens=None, local_path=adapter, lora_assigned_int_id=number
        )
        assert self.engine is not None
        await self.engine.resolve_lora(found)
        return await answer_rows(self.engine, name, rows, greedy)

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        # Ray asks whether a version is loaded and then loads it: of requests that meet at its first use all but one
        # would fail with "has already been loaded".
        model = serve.get_multiplexed_model_id()
        async with self._turns[model]:
            try:
                await super()._maybe_resolve_lora_from_multiplex()
            except Exception as error:
                if is_engine_gone(error) or not model:
                    raise
                raise NotLoadedError(f"{model}: {type(error).__name__}: {error}") from error

    async def load(self) -> bool:
        """Loads the version that the call is for, so that the first request to it does not wait."""
        await self._maybe_resolve_lora_from_multiplex()
        return True

    def _init_multiplex_loader(self, model_downloader_cls: Any = None) -> None:
        super()._init_multiplex_loader(cast(Any, partial(RegistryLoader, self._catalog)))

    def _batch_output_stream(self, generator: AsyncGenerator[Any, None]) -> AsyncGenerator[list[Any], None]:
        return batches(generator, _BATCH_PAUSE_S)


def bind_engine(config: LLMConfig, catalog: Catalog) -> Application:
    """The deployment of one engine: the base's with all adapters, or a merged version's."""
    options: dict[str, Any] = {"deployment_cls": cast(Any, RegistryServer), "bind_kwargs": {"catalog": catalog}}
    if config.model_id != catalog.base:  # Serve's names know neither colon nor @
        options["override_serve_options"] = {"name": f"Merged:{re.sub('[:@.]', '--', config.model_id)}"}
    engine: Application = build_llm_deployment(config, **options)
    return engine
