"""Ends a search whose lanes can't be kept, and leaves its trials as they are, for `--resume`."""

from __future__ import annotations

from typing import Any

from ray.exceptions import ActorUnavailableError, RayError
from ray.tune import Callback

from raytune_ft.errors import LanesLost
from raytune_ft.execution.lanes.entries import LanesNow
from raytune_ft.paths import RunDirectory
from raytune_ft.search.trials.asked import Asked


class LanesKept(Callback):
    """Watches the lanes' dispatcher; runs in the driver.

    Args:
        dispatcher: Handle of the dispatcher.
        run: The run directory, which the error names.

    Attributes:
        away: Numbers of the lanes that hold no workers now.
    """

    def __init__(self, dispatcher: Any, run: RunDirectory) -> None:
        self._dispatcher, self._run = dispatcher, run
        self._now = Asked(dispatcher.now.remote)
        self.away: frozenset[int] = frozenset()

    def __getstate__(self) -> dict[str, Any]:
        """Returns no state: Tune pickles its callbacks, but a sweep is resumed from its study."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raises LanesLost if the lanes are given up, which ends Ray Tune's loop and leaves its trials as they are."""
        try:
            now = next(iter(self._now.news()), LanesNow(away=self.away))
        except ActorUnavailableError:  # the next call asks again
            return
        except RayError as error:
            now = LanesNow(f"the lanes' dispatcher ended ({str(error).splitlines()[0]})")
        self.away = now.away
        if now.given_up is not None:
            self._dispatcher.close.remote(0.0)  # its proxies wait for reports that will not come
            raise LanesLost(str(self._run.root), now.given_up)
