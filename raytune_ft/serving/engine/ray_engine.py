"""Ray Serve LLM's engine replica, extended to load adapters and merged models from a registry.

Read against ray 2.60.0. Only this file and `ray_llm` touch `ray.llm._internal`. The extension is needed because Ray's
own adapter loader accepts only cloud URLs.
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
    """Gives vLLM the registry's own directory of a version, after the manifest was verified."""

    def __init__(self, catalog: Catalog, **options: Any) -> None:
        super().__init__(**options)
        self._catalog, self._threads = catalog, ThreadPoolExecutor(_LOADS_AT_ONCE, "raytune-ft-load")

    async def load_model_from_config(self, lora_model_id: str, llm_config: LLMConfig) -> DiskMultiplexConfig:
        # It has threads of its own, so that storage that hangs does not block those of the rest of the replica.
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
        if loading.model_id != catalog.base:  # a merged version's files are verified here, on the replica's own node
            path = await asyncio.to_thread(catalog.load_path, loading.model_id)
            loading.model_source = str(path.resolve())
        await super().__init__(llm_config)
        keep_texts_out_of_logs()  # only now: the reason for a failed start is logged in full

    async def can_answer(self) -> bool:
        """Tells whether the engine can answer, by a round trip through its own loop; a live process is not enough."""
        await self.check_health()
        return not await self.is_sleeping()

    async def answer_rows(self, adapter: str, rows: list[dict[str, Any]], greedy: int) -> list[dict[str, Any]]:
        """Answers held-out rows with the adapter in a directory of this node, for the gate parity.

        The arguments and the result are those of `engine.candidate.answer_rows`.
        """
        number = global_id_manager.next()
        name = f"candidate-{number}-{uuid.uuid4().hex}"  # clients can't ask for it: their ids begin with the base's
        found = DiskMultiplexConfig(
            model_id=name, max_total_tokens=None, local_path=adapter, lora_assigned_int_id=number
        )
        assert self.engine is not None
        await self.engine.resolve_lora(found)
        return await answer_rows(self.engine, name, rows, greedy)

    async def _maybe_resolve_lora_from_multiplex(self) -> None:
        # Ray checks whether a version is loaded and then loads it, without a lock. Of several requests that come first,
        # all but one would fail with "has already been loaded".
        model = serve.get_multiplexed_model_id()
        async with self._turns[model]:
            try:
                await super()._maybe_resolve_lora_from_multiplex()
            except Exception as error:
                if is_engine_gone(error) or not model:
                    raise
                raise NotLoadedError(f"{model}: {type(error).__name__}: {error}") from error

    async def load(self) -> bool:
        """Loads the version that the call's multiplexed model id names, so that its first request need not wait."""
        await self._maybe_resolve_lora_from_multiplex()
        return True

    def _init_multiplex_loader(self, model_downloader_cls: Any = None) -> None:
        super()._init_multiplex_loader(cast(Any, partial(RegistryLoader, self._catalog)))

    def _batch_output_stream(self, generator: AsyncGenerator[Any, None]) -> AsyncGenerator[list[Any], None]:
        return batches(generator, _BATCH_PAUSE_S)


def bind_engine(config: LLMConfig, catalog: Catalog) -> Application:
    """Returns the Serve deployment of one engine: that of the base with all adapters, or that of a merged version."""
    options: dict[str, Any] = {"deployment_cls": cast(Any, RegistryServer), "bind_kwargs": {"catalog": catalog}}
    if config.model_id != catalog.base:  # names of Serve deployments may hold neither colon nor @
        options["override_serve_options"] = {"name": f"Merged:{re.sub('[:@.]', '--', config.model_id)}"}
    engine: Application = build_llm_deployment(config, **options)
    return engine
