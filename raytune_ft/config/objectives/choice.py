"""The union of the objectives: a new one is named here."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from raytune_ft.config.objectives.custom import Custom
from raytune_ft.config.objectives.dpo import Dpo
from raytune_ft.config.objectives.sft import Sft

OBJECTIVES: dict[str, type[Sft] | type[Dpo] | type[Custom]] = {"sft": Sft, "dpo": Dpo, "custom": Custom}
DEFAULT = "sft"


def _with_type(value: Any) -> Any:
    if isinstance(value, dict):
        return {"type": DEFAULT, **value}
    if isinstance(value, tuple(OBJECTIVES.values())):
        return value
    named = value if isinstance(value, str) and value in OBJECTIVES else DEFAULT
    raise ValueError(f"{json.dumps(value)} is not a section; write objective: {{type: {named}}}")


Objective = Annotated[Annotated[Sft | Dpo | Custom, Field(discriminator="type")], BeforeValidator(_with_type)]
