"""`search.budget:`: the limits at which a study is closed."""

from __future__ import annotations

from pydantic import Field, StrictFloat, StrictInt, model_validator

from raytune_ft.config.model import Strict


class Budget(Strict):
    """Limits besides `search.trials`; when the first is reached, running trials end at their next report."""

    hours: StrictFloat | None = Field(None, gt=0.0)
    """Hours of the sweep, including those before a resume."""
    device_hours: StrictFloat | None = Field(None, gt=0.0)
    """Hours times the GPUs that workers hold, or times their CPUs if they hold no GPU."""
    tokens: StrictInt | None = Field(None, ge=1)
    """Training tokens of all trials."""
    cost: StrictFloat | None = Field(None, gt=0.0)
    """Cost of the device hours by `prices`."""
    prices: dict[str, StrictFloat] = {}
    """Device -> price of an hour: `cpu`, `gpu`, or a GPU by Ray's name (`H100`, `A10G`), which overrides `gpu`."""

    @model_validator(mode="after")
    def _priced(self) -> Budget:
        for device, price in self.prices.items():
            if not 0 <= price < float("inf"):
                raise ValueError(f"prices: {device} costs {price} an hour; use a number that is not negative")
        if self.cost is not None and not self.prices:
            raise ValueError("cost needs prices; add prices: {gpu: 2.5}, the price of a device's hour")
        return self
