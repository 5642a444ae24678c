"""Ray's prefix-aware router, made to know adapters. Read against ray 2.60.0; imported where requests are routed only.

The tree of prompts is Ray's; the choice is not. Ray's looks at the prompt alone, while a cached prefix holds for one
adapter version; it asks twice who has a version loaded, and the second answer is who has the fewest; where one replica
alone has it, all requests go there however many they are; and it waits for the tree with its event loop stopped.
Without FIFOMixin, of the calls that one HTTP request makes at once (a list of prompts) all but one wait for ever: they
share the id by which a router gives out the replica that it chose.
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
    """Of the replicas that aren't too busy those that have the version, of these those that saw the prompt's beginning.

    `imbalanced_threshold` says by how many requests one may be busier than the least busy; `match_rate_threshold` how
    much of a prompt has to be known for it to count.
    """

    async def choose_replicas(self, candidate_replicas: list[Any], pending_request: Any = None) -> Any:
        if pending_request is None or not pending_request.args or not candidate_replicas:
            # Ray's prefix router calls it like this too, although it is none of its parents.
            return await PowerOfTwoChoicesRequestRouter.choose_replicas(
                cast(Any, self), candidate_replicas, pending_request
            )
        pending_request.routing_context.should_backoff = True  # where all of these are full, wait before asking again
        busy = {each.replica_id: self._replica_queue_len_cache.get(each.replica_id) or 0 for each in candidate_replicas}
        limit = min(busy.values()) + cast(float, self._imbalanced_threshold)
        near = [each for each in candidate_replicas if busy[each.replica_id] <= limit]
        if version := pending_request.metadata.multiplexed_model_id:
            near = self._with(version, near, candidate_replicas)
        seen = await self._seen(self._extract_text_from_request(pending_request), near)
        quiet = sorted(near, key=lambda each: (busy[each.replica_id], random.random()))
        return [seen or quiet[:2], quiet, candidate_replicas]

    def _with(self, version: str, near: list[Any], everybody: list[Any]) -> list[Any]:
        """Those that have the version; those with the fewest where nobody has it; all where who has it is too busy."""
        loaded = self._multiplexed_model_id_to_replica_ids.get(version, ())
        if having := [each for each in near if each.replica_id in loaded]:
            return having
        if any(each.replica_id in loaded for each in everybody):
            return near
        fewest = min(len(each.multiplexed_model_ids) for each in near)
        return [each for each in near if len(each.multiplexed_model_ids) == fewest]

    async def _seen(self, text: str, near: list[Any]) -> list[Any]:
        """Those of `near` that were asked the longest beginning of the text, if it is long enough."""
        ids = {each.replica_id.to_full_id_str(): each for each in near}
        try:
            matched, names = await self._tree_actor.prefix_match.remote(text, list(ids))
        except RayError:  # the tree ended with its node: the load alone decides
            return []
        if len(matched) < cast(float, self._match_rate_threshold) * len(text):
            return []
        return [ids[name] for name in names or () if name in ids]

    def _get_pending_request_matching_metadata(self, request_metadata: Any = None) -> Any:
        """Who gets the replica that was chosen for a request: itself; where several share its id, one of its model."""
        own = self._get_pending_request_matching_internal_request_id(request_metadata)
        return own or super()._get_pending_request_matching_metadata(request_metadata)

    def on_request_routed(self, pending_request: Any, replica_id: ReplicaID, result: Any) -> None:
        if pending_request is not None and pending_request.args:
            text = self._extract_text_from_request(pending_request)
            self._tree_actor.insert.remote(text, replica_id.to_full_id_str(), time.time())  # nobody waits for it

    def _extract_text_from_request(self, pending_request: Any) -> str:
        try:
            text = super()._extract_text_from_request(pending_request)
        except ValueError:  # a call without a prompt
            text = ""
        return f"{pending_request.metadata.multiplexed_model_id}\n{text}"

    def _coerce_to_text(self, value: Any) -> str:
        if isinstance(value, int):  # a prompt may be tokens
            return f"{value} "
        text: str = super()._coerce_to_text(value)
        return text
