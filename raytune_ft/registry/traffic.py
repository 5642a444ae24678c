"""Which share of an adapter's requests the challenger gets, and how a request is told where it belongs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StrictBool, ValidationError, model_validator

from raytune_ft.config.model import Strict
from raytune_ft.errors import InputError, IntegrityError
from raytune_ft.paths import read_json, sync_directory, write_json
from raytune_ft.registry.journal import TRAFFIC_NAME, Move, record

if TYPE_CHECKING:
    from raytune_ft.registry.store import Registry

CHAMPION = "champion"
CHALLENGER = "challenger"
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]


class Traffic(Strict):
    """A canary: what part of the requests to `<adapter>` goes where."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this format."""
    shares: dict[Literal["champion", "challenger"], Percent]
    """Alias -> whole percent; together 100."""
    by: Literal["request", "user"] = "request"
    """Drawn anew for every request, or the same for all requests of a user."""
    shadow: StrictBool = False
    """The champion answers everything; the challenger is asked its share besides, and nobody sees its answer."""

    @model_validator(mode="after")
    def _together_100(self) -> Traffic:
        if sum(self.shares.values()) != 100:
            raise ValueError(f"the shares {self.shares} are {sum(self.shares.values())} percent together, not 100")
        return self

    def alias(self, adapter: str, user: str | None, draw: float) -> str:
        """Which alias answers a request.

        Args:
            adapter: The adapter's name: a user may be in one adapter's canary and not in another's.
            user: Who asks, where that is known.
            draw: Random, in [0, 1); decides where it is not the user that does.
        """
        return CHAMPION if self.shadow else self._drawn(adapter, user, draw)

    def besides(self, adapter: str, user: str | None, draw: float) -> str | None:
        """Which alias is asked too, in the shadow; None for no one."""
        return CHALLENGER if self.shadow and self._drawn(adapter, user, draw) == CHALLENGER else None

    def _drawn(self, adapter: str, user: str | None, draw: float) -> str:
        point = draw * 100
        if self.by == "user" and user is not None:
            digest = hashlib.sha256(f"{adapter}\0{user}".encode("utf-8", "surrogatepass")).digest()
            point = int.from_bytes(digest[:8], "big") * 100 >> 64
        # The challenger has the low end, so who is with it stays with it while its share grows.
        return CHALLENGER if point < self.shares.get(CHALLENGER, 0) else CHAMPION

    def to_json(self) -> dict[str, Any]:
        """The rule as it is written."""
        return self.model_dump(mode="json", by_alias=True)


def canary(percent: int, *, by: Literal["request", "user"] = "request", shadow: bool = False) -> Traffic:
    """The rule that gives the challenger `percent` of the requests."""
    return Traffic(shares={"champion": 100 - percent, "challenger": percent}, by=by, shadow=shadow)


def read_traffic(registry: Registry, adapter: str) -> Traffic | None:
    """The rule in force. One that sends requests to an alias that is gone is none: the champion answers all.

    Raises:
        IntegrityError: The file is no such rule.
    """
    path = registry.file(adapter, TRAFFIC_NAME)
    try:
        value = read_json(path)
    except FileNotFoundError:
        return None
    try:
        rule = Traffic.model_validate(value)
    except ValidationError as error:
        raise IntegrityError(f"{path}: {error.errors()[0]['msg']}; set it anew with: canary {adapter}") from error
    return None if _vanished(rule.shares, registry.aliases(adapter)) else rule


def set_traffic(registry: Registry, adapter: str, traffic: Traffic | None, *, command: str | None = None) -> None:
    """Puts a rule in force, or takes the present one away; journals it.

    Raises:
        InputError: An alias that would get requests points to nothing.
    """
    with registry.lock(adapter):
        aliases = registry.aliases(adapter)
        if traffic is not None and (gone := _vanished(traffic.shares, aliases)):
            raise InputError(adapter, f"has no {gone} in {registry.root}", f"run: raytune-ft promote RUN --as {gone}")
        _put(registry, adapter, traffic.to_json() if traffic else None, command)


def clear_vanished(registry: Registry, adapter: str, command: str | None) -> None:
    """Takes away a rule that sends requests to an alias that is gone; the caller holds the adapter's lock."""
    rule = _raw(registry, adapter)
    if rule is not None and _vanished(rule.get("shares") or {}, registry.aliases(adapter)):
        _put(registry, adapter, None, command)


def remove_rule(registry: Registry, adapter: str) -> None:
    """Takes the rule away without a line of its own; the caller holds the lock and has journaled why."""
    path = registry.file(adapter, TRAFFIC_NAME)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def _put(registry: Registry, adapter: str, rule: dict[str, Any] | None, command: str | None) -> None:
    before = _raw(registry, adapter)
    if rule == before:
        return
    record(registry, adapter, Move(action="traffic", before=before, after=rule, command=command))
    if rule is None:
        remove_rule(registry, adapter)
    else:
        write_json(registry.file(adapter, TRAFFIC_NAME), rule)


def _raw(registry: Registry, adapter: str) -> Any:
    path = registry.file(adapter, TRAFFIC_NAME)
    return read_json(path) if path.is_file() else None


def _vanished(shares: Any, aliases: dict[str, int]) -> str | None:
    return next((alias for alias, share in shares.items() if share and alias not in aliases), None)
