"""Ray's prefix-aware router, extended to adapters. Read against ray 2.60.0; imported only where requests are routed.

It uses Ray's tree of prompts, but chooses replicas by its own rule, because Ray's router
- looks at the prompt alone, while a cached prefix is valid for one adapter version only,
- looks up twice which replicas have a version loaded, and the second time gets those with the fewest versions,
- sends all requests for a version to the one replica that has it, however many they are,
- blocks its event loop while it waits for the tree.
FIFOMixin is needed for an HTTP request with a list of prompts, which makes several calls at once: they share the id by
which a router hands out the chosen replica, and without the mixin all but one would wait forever.
"""

from __future__ import annotations

import random
import time
from typing import Any, cast

from ray.exceptions import RayError
from ray.serve._private.request_router.pow_2_router import PowerOfTwoChoicesRequestRouter
from ray.serve.llm.request_router import PrefixCacheAffinityRouter
from ray.serve.request_router import FIFOMixin, ReplicaID


class AdapterPrefixRouter(FIFOMixin, PrefixCacheAffinityRouter):
    """Prefers, among replicas that aren't too busy, those with the version loaded that also saw the prompt's prefix.

    `imbalanced_threshold` says by how many requests a replica may be busier than the least busy one.
    `match_rate_threshold` says which fraction of a prompt must match for the prefix to count.
    """

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> Any:
        if pending_request is None or not pending_request.args or not candidate_replicas:
            # Called unbound, as Ray's own prefix router does, because it is not one of this class's parents.
            return await PowerOfTwoChoicesRequestRouter.choose_replicas(
                cast(Any, self), candidate_replicas, pending_request
            )
        pending_request.routing_context.should_backoff = True  # if all of these are full, wait before the next attempt
        busy = {each.replica_id: self._replica_queue_len_cache.get(each.replica_id) or 0 for each in candidate_replicas}
        limit = min(busy.values()) + cast(float, self._imbalanced_threshold)
        near = [each for each in candidate_replicas if busy[each.replica_id] <= limit]
        if version := pending_request.metadata.multiplexed_model_id:
            near = self._with(version, near, candidate_replicas)
        seen = await self._seen(self._extract_text_from_request(pending_request), near)
        quiet = sorted(near, key=lambda each: (busy[each.replica_id], random.random()))
        return [seen or quiet[:2], quiet, candidate_replicas]

    def _with(self, version: str, near: list[Any], everybody: list[Any]) -> list[Any]:
        """Returns the replicas of `near` that have the version loaded.

        If only replicas that are too busy have it, returns all of `near`; if none has it, those with fewest versions.
        """
        loaded = self._multiplexed_model_id_to_replica_ids.get(version, ())
        if having := [each for each in near if each.replica_id in loaded]:
            return having
        if any(each.replica_id in loaded for each in everybody):
            return near
        fewest = min(len(each.multiplexed_model_ids) for each in near)
        return [each for each in near if len(each.multiplexed_model_ids) == fewest]

    async def _seen(self, text: str, near: list[Any]) -> list[Any]:
        """Returns the replicas of `near` that saw the longest prefix of the text; none if that is too short."""
        ids = {each.replica_id.to_full_id_str(): each for each in near}
        try:
            matched, names = await self._tree_actor.prefix_match.remote(text, list(ids))
        except RayError:  # the tree's actor died with its node, so that only the load decides
            return []
        if len(matched) < cast(float, self._match_rate_threshold) * len(text):
            return []
        return [ids[name] for name in names or () if name in ids]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """Returns the request that gets a chosen replica: the one it was chosen for, or else one for the same model."""
        own = self._get_pending_request_matching_internal_request_id(request_metadata)
        return own or super()._get_pending_request_matching_metadata(request_metadata)

    def on_request_routed(self, pending_request: Any, replica_id: ReplicaID, result: Any) -> None:
        if pending_request is not None and pending_request.args:
            text = self._extract_text_from_request(pending_request)
            self._tree_actor.insert.remote(text, replica_id.to_full_id_str(), time.time())  # not awaited on purpose

    def _extract_text_from_request(self, pending_request: Any) -> str:
        try:
            text = super()._extract_text_from_request(pending_request)
        except ValueError:  # a call without a prompt
            text = ""
        return f"{pending_request.metadata.multiplexed_model_id}\n{text}"

    def _coerce_to_text(self, value: Any) -> str:
        if isinstance(value, int):  # a prompt may be a list of token ids
            return f"{value} "
        text: str = super()._coerce_to_text(value)
        return text
