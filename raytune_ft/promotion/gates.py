"""The gates of a promotion: which of them may be skipped or forced, and their verdicts."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from raytune_ft.config.promotion import PromotionConfig
from raytune_ft.errors import InputError, RaytuneError

SKIPPABLE = ("gain", "retention", "no_worse", "parity")
"""Gates that may be skipped. The others cost nothing, and the endpoint could not serve what they refuse."""
FORCED = ("gain", "retention", "no_worse")
"""Gates that `--force` overrules: those on the adapter's quality, not those on its integrity."""


@dataclass(frozen=True)
class Verdict:
    """The verdict of one gate.

    Attributes:
        gate: Name of the gate.
        passed: Whether it passed; None if it was not run.
        reason: The reason in one line, with the numbers.
        numbers: The measured values, for programs.
    """

    gate: str
    passed: bool | None
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns the verdict as manifest and journal keep it under the gate's name."""
        return {"passed": self.passed, "reason": self.reason, **self.numbers}


class GateRefusedError(RaytuneError):
    """A gate refused the promotion; the registry was not changed."""

    def __init__(self, where: str, verdict: Verdict) -> None:
        self.where, self.verdict = where, verdict
        super().__init__(where, verdict)  # unpickling calls the class with these args

    def __str__(self) -> str:
        way = "; --force promotes it anyway" if self.verdict.gate in FORCED else ""
        return f"{self.where}: {self.verdict.gate}: {self.verdict.reason}; nothing was promoted{way}"


class Gates:
    """Collects the verdicts of the gates, and stops the promotion at the first refusal.

    Args:
        where: Name of the run, for errors.
        settings: The experiment's `promotion:` section.
        skip: Gates to leave out this time.
        force: Go on if a gate of `FORCED` refuses.
        say: Receives a line for each verdict.

    Raises:
        InputError: A name in `skip` is no gate, or is a gate that can't be skipped.
    """

    def __init__(
        self,
        where: str,
        settings: PromotionConfig,
        skip: Collection[str],
        force: bool,
        say: Callable[[str], None],
    ) -> None:
        for name in skip:
            if name not in SKIPPABLE:
                raise InputError(f"--skip {name}", "is no gate that can be skipped", f"skip {', '.join(SKIPPABLE)}")
        self.verdicts: list[Verdict] = []
        self._where, self._settings, self._skip, self._force, self._say = where, settings, skip, force, say

    def wanted(self, gate: str) -> bool:
        """Tells whether a gate that may be skipped is run."""
        return gate not in self._skip and getattr(self._settings, gate) is not None

    def leave_out(self, gate: str) -> None:
        """Records that a gate is not run, and whether the experiment or the command says so."""
        why = "--skip" if gate in self._skip else f"promotion.{gate}: null"
        self._record(Verdict(gate, None, f"switched off by {why}"))

    def take(self, verdict: Verdict) -> None:
        """Records a verdict.

        Raises:
            GateRefusedError: The gate refuses and is not forced.
        """
        if verdict.passed is False and not (self._force and verdict.gate in FORCED):
            raise GateRefusedError(self._where, verdict)
        self._record(verdict)

    @property
    def forced(self) -> bool:
        """Whether a gate refused and was overruled."""
        return any(verdict.passed is False for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Returns gate -> verdict in the order in which the gates were run."""
        return {verdict.gate: verdict.to_json() for verdict in self.verdicts}

    def _record(self, verdict: Verdict) -> None:
        # A gate that is run again because the champion has changed replaces its first verdict.
        self.verdicts = [each for each in self.verdicts if each.gate != verdict.gate] + [verdict]
        word = {True: "passed", False: "refused, forced", None: "not run"}[verdict.passed]
        self._say(f"gate {verdict.gate}: {word}: {verdict.reason}")
