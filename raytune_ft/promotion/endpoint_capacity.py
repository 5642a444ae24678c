"""Warns if running endpoints can't serve a version that was just promoted, because its rank exceeds their limit."""

from __future__ import annotations

from collections.abc import Callable

from raytune_ft.errors import InputError, RaytuneError
from raytune_ft.registry import manifest as manifests
from raytune_ft.registry.manifest import Manifest
from raytune_ft.registry.store import Registry
from raytune_ft.serving.models.capacity import rank_with_room, served_rank


def warn_of_room(
    registry: Registry, adapter: str, version: int, previous: int | None, url: str | None, say: Callable[[str], None]
) -> None:
    """Warns if a running endpoint may go on answering with the version before.

    Args:
        registry: The registry that holds the version.
        adapter: Name of the adapter.
        version: The present champion.
        previous: The champion before, or None.
        url: URL of an endpoint, ending in /v1, to ask with the key of RAYTUNE_FT_API_KEY; None asks none.
        say: Receives the warning.
    """
    found = manifests.read(registry.path(adapter, version))
    if found.merged:
        return
    try:
        before = manifests.read(registry.path(adapter, previous)) if previous is not None else None
    except RaytuneError:
        before = None
    if url is None:
        warning = needs_room(found, before)
    else:
        try:
            warning = lacks_room(found, url, _rank_taken(url))
        except RaytuneError as error:
            warning = f"{url} could not be asked for its max_lora_rank ({error})"
    if warning is not None:
        say(warning)


def needs_room(found: Manifest, before: Manifest | None) -> str | None:
    """Returns a warning if an endpoint that serves the version before might not take the rank, without asking one."""
    today = before.lora_rank if before is not None and not before.merged else 0
    step = served_rank(found.lora_rank)
    if step <= (served_rank(today) if today else rank_with_room(1, 0)):
        return None
    return (
        f"rank {found.lora_rank}: an endpoint that runs with a max_lora_rank below {step} goes on with the version of "
        "before until it is started anew; to ask one: GET /health with a key, or promote --url URL"
    )


def lacks_room(found: Manifest, url: str, taken: int | None) -> str | None:
    """Returns a warning if the endpoint's max_lora_rank `taken` is too low or unknown, else None."""
    if taken is None:
        return f"{url} does not say what max_lora_rank it has; GET /health there with a key shows what is held back"
    if found.lora_rank <= taken:
        return None
    return (
        f"{url} takes rank {taken} at most and {found.adapter}@{found.version} has {found.lora_rank}: it goes on with "
        f"the version of before; start it anew with max_lora_rank {served_rank(found.lora_rank)}"
    )


def _rank_taken(url: str) -> int | None:
    """Returns the max_lora_rank in the endpoint's list of models; raises RaytuneError if it can't be asked."""
    from openai import OpenAIError

    from raytune_ft.serving.local.ask import client
    from raytune_ft.serving.local.session import Endpoint
    from raytune_ft.serving.settings import read_api_key

    try:
        listed = client(Endpoint(url, [], read_api_key(None))).models.list().data
    except (OpenAIError, InputError) as error:
        raise RaytuneError(" ".join(f"{type(error).__name__}: {error}".split())[:200]) from error
    facts = [(each.model_extra or {}).get("metadata") or {} for each in listed]
    return next((int(each["max_lora_rank"]) for each in facts if isinstance(each.get("max_lora_rank"), int)), None)
