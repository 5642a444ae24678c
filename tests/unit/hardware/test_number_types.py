"""Which number type a study takes, by what its devices are fast in."""

from __future__ import annotations

import pytest

from raytune_ft.config.number_type import holds
from raytune_ft.hardware.device import Device, common_type, fast_types, holding_type


def cpu(name: str, bfloat16: float, float32: float, float16: float = 0.0) -> Device:
    return Device(name, gflops={"bfloat16": bfloat16, "float16": float16, "float32": float32})


P40, P100 = Device("Tesla P40", (6, 1)), Device("Tesla P100", (6, 0))
V100, T4 = Device("Tesla V100", (7, 0)), Device("Tesla T4", (7, 5))
A100, H100 = Device("NVIDIA A100", (8, 0)), Device("NVIDIA H100", (9, 0))
AVX2 = cpu("EPYC of 2021 (avx2)", bfloat16=13, float32=73, float16=12)  # as measured
AVX512 = cpu("Xeon of 2019 (avx512f avx2)", bfloat16=40, float32=150, float16=30)
AVX512_BF16 = cpu("EPYC (avx512_bf16 avx2)", bfloat16=400, float32=180, float16=39)  # as measured
AMX = cpu("Xeon of 2023 (amx_bf16)", bfloat16=380, float32=120, float16=60)


@pytest.mark.parametrize(
    ("device", "number_type"),
    [
        (P40, "float32"), (P100, "float16"), (V100, "float16"), (T4, "float16"), (A100, "bfloat16"),
        (H100, "bfloat16"), (AVX2, "float32"), (AVX512, "float32"), (AVX512_BF16, "bfloat16"), (AMX, "bfloat16"),
    ],
)  # fmt: skip
def test_a_device_gets_the_type_that_it_multiplies_fast(device: Device, number_type: str) -> None:
    assert common_type([device]) == fast_types(device)[0] == number_type
    assert fast_types(device)[-1] == "float32"  # which every device has


@pytest.mark.parametrize(
    ("devices", "number_type"),
    [
        ([A100, H100], "bfloat16"), ([A100, T4], "float16"), ([A100, P40], "float32"), ([V100, T4], "float16"),
        ([AVX2, AMX], "float32"), ([AMX, AVX512_BF16], "bfloat16"), ([], "bfloat16"),
    ],
)  # fmt: skip
def test_a_mixed_cluster_gets_the_type_that_all_of_it_is_fast_in(devices: list[Device], number_type: str) -> None:
    assert common_type(devices) == number_type


@pytest.mark.parametrize(
    ("trained_in", "device", "number_type"),
    [
        ("bfloat16", AMX, "bfloat16"), ("bfloat16", AVX2, "float32"), ("bfloat16", T4, "float32"),
        ("bfloat16", H100, "bfloat16"), ("float16", T4, "float16"), ("float16", A100, "float16"),
        ("float16", AMX, "float32"), ("float32", AMX, "float32"), ("float32", H100, "float32"),
    ],
)  # fmt: skip
def test_what_was_trained_is_computed_in_a_type_that_holds_all_of_it(trained_in, device, number_type) -> None:
    assert holding_type([device], [trained_in]) == number_type
    assert holds(number_type, trained_in)


def test_versions_of_several_types_are_served_in_one_that_holds_them_all() -> None:
    assert holding_type([H100], ["bfloat16", "float16"]) == "float32"
    assert holding_type([H100], ["float16"]) == "float16" and holding_type([H100], []) == "bfloat16"


def test_neither_16_bit_type_holds_the_other() -> None:
    assert not holds("bfloat16", "float16") and not holds("float16", "bfloat16")
    assert holds("float32", "bfloat16") and not holds("bfloat16", "float32")
