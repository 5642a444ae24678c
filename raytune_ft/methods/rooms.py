"""The modules of the methods, by name: a new one is named here."""

from __future__ import annotations

from raytune_ft.methods import full, lora, qlora
from raytune_ft.methods.parts import MethodRoom

ROOMS: dict[str, MethodRoom] = {"lora": lora, "qlora": qlora, "full": full}
