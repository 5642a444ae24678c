"""Traffic rules: which share of an adapter's requests the challenger gets, and which requests these are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StrictBool, ValidationError, model_validator

from raytune_ft.config.model import Strict
from raytune_ft.errors import InputError, IntegrityError, RaytuneError
from raytune_ft.paths import read_json, sync_directory, write_json
from raytune_ft.registry.files import TRAFFIC_NAME, AdapterFiles
from raytune_ft.registry.journal import Move, record

if TYPE_CHECKING:
    from pathlib import Path


CHAMPION: Literal["champion"] = "champion"
CHALLENGER: Literal["challenger"] = "challenger"
Percent = Annotated[int, Field(strict=True, ge=0, le=100)]


class Traffic(Strict):
    """A canary rule: how the requests to the plain name `<adapter>` are split between champion and challenger."""

    schema_version: Literal[1] = Field(1, alias="schema")
    """Version of this format."""
    shares: dict[Literal["champion", "challenger"], Percent]
    """Alias -> whole percent; they add up to 100."""
    by: Literal["request", "user"] = "request"
    """Draw at random for every request, or once for all requests of a user."""
    shadow: StrictBool = False
    """The champion answers everything, and the challenger gets copies of its share; no client sees its answers."""

    @model_validator(mode="after")
    def _together_100(self) -> Traffic:
        if sum(self.shares.values()) != 100:
            raise ValueError(f"the shares {self.shares} are {sum(self.shares.values())} percent together, not 100")
        return self

    def alias(self, adapter: str, user: str | None, draw: float) -> str:
        """Returns the alias that answers a request.

        Args:
            adapter: The adapter's name; a user may be in one adapter's canary and not in another's.
            user: The end user, or None if unknown.
            draw: Random number in [0, 1), which decides unless the split is by user.
        """
        return CHAMPION if self.shadow else self._drawn(adapter, user, draw)

    def besides(self, adapter: str, user: str | None, draw: float) -> str | None:
        """Returns the alias that gets a shadow copy of a request, or None; takes the arguments of `alias`."""
        return CHALLENGER if self.shadow and self._drawn(adapter, user, draw) == CHALLENGER else None

    def answers(self, alias: str) -> int:
        """Returns the percentage of the requests to the adapter's plain name that the alias answers."""
        if self.shadow:
            return 100 if alias == CHAMPION else 0
        return next((share for name, share in self.shares.items() if name == alias), 0)

    def is_asked_besides(self, alias: str) -> int:
        """Returns the percentage of these requests of which the alias gets a shadow copy."""
        return self.shares.get(CHALLENGER, 0) if self.shadow and alias == CHALLENGER else 0

    def _drawn(self, adapter: str, user: str | None, draw: float) -> str:
        point = draw * 100
        if self.by == "user" and user is not None:
            digest = hashlib.sha256(f"{adapter}\0{user}".encode("utf-8", "surrogatepass")).digest()
            point = int.from_bytes(digest[:8], "big") * 100 >> 64
        # The challenger has the low end of the range, so that its users stay with it while its share grows.
        return CHALLENGER if point < self.shares.get(CHALLENGER, 0) else CHAMPION

    def to_json(self) -> dict[str, Any]:
        """Returns the rule as it is written to the file."""
        return self.model_dump(mode="json", by_alias=True)


def canary(percent: int, *, by: Literal["request", "user"] = "request", shadow: bool = False) -> Traffic:
    """Returns the rule that gives the challenger `percent` of the requests."""
    return Traffic(shares={"champion": 100 - percent, "challenger": percent}, by=by, shadow=shadow)


def read_traffic(registry: AdapterFiles, adapter: str) -> Traffic | None:
    """The rule in force. One that sends requests to an alias that is gone is none: the champion answers all.

    Raises:
        IntegrityError: The file is not a valid rule.
    """
    rule = read_rule(registry, adapter)
    return None if rule is None or _vanished(rule, registry.aliases(adapter)) else rule


def read_rule(registry: AdapterFiles, adapter: str) -> Traffic | None:
    """The rule as it is written, whatever has become of its aliases. Raises IntegrityError as `read_traffic`."""
    path = registry.file(adapter, TRAFFIC_NAME)
    try:
        return Traffic.model_validate(read_json(path))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        what = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise IntegrityError(f"{path}: {what}; take it away with: raytune-ft canary {adapter} --off") from error


def set_traffic(registry: AdapterFiles, adapter: str, traffic: Traffic | None, *, command: str | None = None) -> None:
    """Puts a rule in force, or takes the present one away; journals it.

    Raises:
        InputError: An alias that would get requests does not exist.
    """
    with registry.lock(adapter):
        aliases = registry.aliases(adapter)
        if traffic is not None and (gone := _vanished(traffic, aliases)):
            remedy = f"run: raytune-ft promote RUN --as {gone}"
            raise InputError(adapter, f"has no {gone} in {registry.location}", remedy)
        _put(registry, adapter, traffic.to_json() if traffic else None, command)


def clear_vanished(registry: AdapterFiles, adapter: str, command: str | None) -> None:
    """Takes away a rule that sends requests to an alias that is gone; the caller holds the adapter's lock."""
    rule = read_rule(registry, adapter)
    if rule is not None and _vanished(rule, registry.aliases(adapter)):
        _put(registry, adapter, None, command)


def remove_rule(registry: AdapterFiles, adapter: str) -> None:
    """Takes the rule away without a line of its own; the caller holds the lock and has journaled why."""
    path = registry.file(adapter, TRAFFIC_NAME)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)


def _put(registry: AdapterFiles, adapter: str, rule: dict[str, Any] | None, command: str | None) -> None:
    path = registry.file(adapter, TRAFFIC_NAME)
    before = _before(path)
    if rule == before and (rule is not None or not path.exists()):
        return
    record(registry, adapter, Move(action="traffic", before=before, after=rule, command=command))
    if rule is None:
        remove_rule(registry, adapter)
        return
    try:
        write_json(path, rule)
    except OSError as error:
        raise RaytuneError(f"{path}: {error.strerror}; the traffic stays as it was") from error


def _before(path: Path) -> Any:
    """Returns the file's present rule for the journal; None if it is broken, as it is about to be replaced."""
    try:
        return read_json(path)
    except (FileNotFoundError, IntegrityError):
        return None


def _vanished(rule: Traffic, aliases: dict[str, int]) -> str | None:
    """Returns an alias that the rule needs and that does not exist; it always needs the champion as the fallback."""
    return next((alias for alias in (CHAMPION, *rule.shares) if alias not in aliases), None)
