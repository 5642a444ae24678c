"""What the search tells whoever watches it."""

from __future__ import annotations

from typing import Any, Protocol

from raytune_ft.training.progress import TrialProgress


class Progress(Protocol):
    """Called in the driver, in the order of events."""

    def started(self, trial: str, parameters: dict[str, Any]) -> None: ...

    def progressed(self, trial: str, state: TrialProgress | None) -> None:
        """Every few seconds while the trial runs; None before its workers have said anything."""
        ...

    def reported(self, trial: str, metrics: dict[str, Any]) -> None: ...

    def ended(self, trial: str, outcome: str, reason: str, value: float | None) -> None: ...


class Silent:
    """Nobody watches."""

    def started(self, trial: str, parameters: dict[str, Any]) -> None:
        pass

    def progressed(self, trial: str, state: TrialProgress | None) -> None:
        pass

    def reported(self, trial: str, metrics: dict[str, Any]) -> None:
        pass

    def ended(self, trial: str, outcome: str, reason: str, value: float | None) -> None:
        pass
