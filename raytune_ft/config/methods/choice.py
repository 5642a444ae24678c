"""The union of the methods: a new one is named here."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from raytune_ft.config.methods.full import Full
from raytune_ft.config.methods.lora import Lora
from raytune_ft.config.methods.qlora import Qlora

METHODS: dict[str, type[Lora] | type[Qlora] | type[Full]] = {"lora": Lora, "qlora": Qlora, "full": Full}
DEFAULT = "lora"


def _with_type(value: Any) -> Any:
    if isinstance(value, dict):
        return {"type": DEFAULT, **value}
    if isinstance(value, tuple(METHODS.values())):
        return value
    named = value if isinstance(value, str) and value in METHODS else DEFAULT
    raise ValueError(f"{json.dumps(value)} is not a section; write method: {{type: {named}}}")


Method = Annotated[Annotated[Lora | Qlora | Full, Field(discriminator="type")], BeforeValidator(_with_type)]
