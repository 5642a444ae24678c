"""In which number type an endpoint computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from raytune_ft.errors import InputError
from raytune_ft.hardware.device import Device
from raytune_ft.registry.store import Registry
from raytune_ft.serving.engine.number_type import in_served_type
from raytune_ft.serving.models.catalog import build_catalog
from raytune_ft.serving.settings import ServeArgs, parse_serve_args

AVX2 = Device("EPYC (avx2)", gflops={"bfloat16": 13, "float16": 12, "float32": 73})
AMX = Device("Xeon (amx_bf16)", gflops={"bfloat16": 380, "float16": 60, "float32": 120})
T4, A100 = Device("Tesla T4", (7, 5)), Device("NVIDIA A100", (8, 0))


@pytest.mark.parametrize(
    ("trained_in", "devices", "dtype"),
    [
        (["bfloat16"], [AMX], "bfloat16"), (["bfloat16"], [AVX2], "float32"), (["bfloat16"], [T4], "float32"),
        (["float16"], [T4, A100], "float16"), (["float32"], [AMX], "float32"), (["bfloat16"], [AMX, AVX2], "float32"),
        ([], [T4], "float16"), ([], [AVX2], "float32"), ([], [A100], "bfloat16"),
    ],
)  # fmt: skip
def test_auto_is_the_fast_type_that_holds_what_was_trained(trained_in, devices, dtype: str) -> None:
    """vLLM refuses bfloat16 on a T4, and on a CPU without it several requests at once want float32."""
    assert in_served_type(ServeArgs(base_model="b"), trained_in, devices).dtype == dtype


def test_a_type_that_the_user_names_is_served() -> None:
    args = ServeArgs(base_model="b", dtype="bfloat16")
    assert in_served_type(args, ["float32"], [AVX2]) is args
    with pytest.raises(InputError, match=r"args\.dtype"):
        parse_serve_args({"base_model": "b", "dtype": "int8"})


def test_the_types_of_all_versions_that_are_served_count(
    write_base: Callable[..., Path], add: Callable[..., Registry]
) -> None:
    base = write_base()
    registry = add(base, rank=4, champion=True, dtype="bfloat16")
    args = ServeArgs(base_model=str(base), registry=str(registry.root))
    assert build_catalog(args).trained_in == ("bfloat16",)
    add(base, rank=4, dtype="float32")
    add(base, rank=4)  # of before it was recorded
    assert build_catalog(args).trained_in == ("bfloat16", "float32")
