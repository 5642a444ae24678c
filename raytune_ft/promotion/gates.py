"""The gates: their names, which of them may be passed over, and what each found."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from raytune_ft.config.promotion import PromotionConfig
from raytune_ft.errors import InputError, RaytuneError

SKIPPABLE = ("gain", "retention", "no_worse", "parity")
"""The others cost nothing, and what they refuse would not be answered."""
FORCED = ("gain", "retention", "no_worse")
"""What `--force` promotes past: how good the adapter is, not whether it is what was trained."""


@dataclass(frozen=True)
class Verdict:
    """What one gate found.

    Attributes:
        gate: Its name.
        passed: None where it was not run.
        reason: In one line, with the numbers.
        numbers: What was measured, for programs.
    """

    gate: str
    passed: bool | None
    reason: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As manifest and journal keep it, under the gate's name."""
        return {"passed": self.passed, "reason": self.reason, **self.numbers}


class GateRefusedError(RaytuneError):
    """A gate refused; the registry is as it was."""

    def __init__(self, where: str, verdict: Verdict) -> None:
        self.where, self.verdict = where, verdict
        super().__init__(where, verdict)  # args rebuild the error on the other side of a pickle

    def __str__(self) -> str:
        way = "; --force promotes it anyway" if self.verdict.gate in FORCED else ""
        return f"{self.where}: {self.verdict.gate}: {self.verdict.reason}; nothing was promoted{way}"


class Gates:
    """Takes each gate's verdict, and stops the promotion at the first that refuses.

    Args:
        where: Named by errors: the run.
        settings: The experiment's `promotion:`.
        skip: Gates that are left out this time.
        force: Go on past those of `FORCED`.
        say: Told each verdict.

    Raises:
        InputError: A gate to be skipped is none, or is never skipped.
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
        """Whether a gate that may be skipped is run."""
        return gate not in self._skip and getattr(self._settings, gate) is not None

    def leave_out(self, gate: str) -> None:
        """Records that a gate is not run, and who said so."""
        why = "--skip" if gate in self._skip else f"promotion.{gate}: null"
        self._record(Verdict(gate, None, f"switched off by {why}"))

    def take(self, verdict: Verdict) -> None:
        """Records a verdict.

        Raises:
            GateRefusedError: It refuses, and is not forced.
        """
        if verdict.passed is False and not (self._force and verdict.gate in FORCED):
            raise GateRefusedError(self._where, verdict)
        self._record(verdict)

    @property
    def forced(self) -> bool:
        """Whether one refused and was gone past."""
        return any(verdict.passed is False for verdict in self.verdicts)

    def to_json(self) -> dict[str, Any]:
        """Gate -> verdict, in the order in which they were run."""
        return {verdict.gate: verdict.to_json() for verdict in self.verdicts}

    def _record(self, verdict: Verdict) -> None:
        # A gate that is asked anew, because the champion moved meanwhile, is shown once.
        self.verdicts = [each for each in self.verdicts if each.gate != verdict.gate] + [verdict]
        word = {True: "passed", False: "refused, forced", None: "not run"}[verdict.passed]
        self._say(f"gate {verdict.gate}: {word}: {verdict.reason}")
