"""Ray's prefix-aware router, made to know adapters. Read against ray 2.60.0; imported where requests are routed only.

Ray's own looks at the prompt alone, while a cached prefix holds for one adapter version; it asks twice which replicas
have an adapter loaded, and takes the second answer, which is those that have the fewest; and where one replica alone
has it, all of an adapter's requests go there however many they are.
"""

from __future__ import annotations

from typing import Any

from ray.serve._private.request_router import PowerOfTwoChoicesRequestRouter
from ray.serve.llm.request_router import PrefixCacheAffinityRouter


class AdapterPrefixRouter(PrefixCacheAffinityRouter):
    """Prefers replicas that have the version loaded and are not too busy, and of these who saw the prompt's beginning.

    `imbalanced_threshold` is by how many requests one may be busier than the least busy of all.
    """

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> list[list[Any]]:
        version = pending_request.metadata.multiplexed_model_id if pending_request is not None else ""
        if not version or not candidate_replicas:
            found: list[list[Any]] = await super().choose_replicas(candidate_replicas, pending_request)
            return found
        busy = {each.replica_id: self._requests_of(each) for each in candidate_replicas}
        limit = min(busy.values()) + self._imbalanced_threshold
        loaded = self._multiplexed_model_id_to_replica_ids.get(version, ())
        near = [each for each in candidate_replicas if each.replica_id in loaded and busy[each.replica_id] <= limit]
        if near:
            chosen = await self._prefix_match_best_replicas(pending_request, near)
            return chosen if chosen[0] else [near]
        if loaded:  # all of them are too busy: one more replica loads it
            return [[min(candidate_replicas, key=lambda each: busy[each.replica_id])]]
        found = await PowerOfTwoChoicesRequestRouter.choose_replicas(self, candidate_replicas, pending_request)
        return found

    def _requests_of(self, replica: Any) -> int:
        """As this router last heard; 0 where it has not asked the replica for a while."""
        return self._replica_queue_len_cache.get(replica.replica_id) or 0

    async def _prefix_match_best_replicas(self, pending_request: Any, candidate_replicas: list[Any]) -> list[list[Any]]:
        try:
            chosen = await super()._prefix_match_best_replicas(pending_request, candidate_replicas)
        except KeyError:  # the tree, which all routers share, still names a replica that has ended
            return [[]]
        allowed = {replica.replica_id for replica in candidate_replicas}
        return [[replica for replica in chosen[0] if replica.replica_id in allowed]]

    def _extract_text_from_request(self, pending_request: Any) -> str:
        text = super()._extract_text_from_request(pending_request)
        return f"{pending_request.metadata.multiplexed_model_id}\n{text}"  # never empty, which Ray's would divide by

    def _coerce_to_text(self, value: Any) -> str:
        if isinstance(value, int):  # a prompt may be tokens
            return f"{value} "
        text: str = super()._coerce_to_text(value)
        return text
