"""The table of accelerators, and what is measured here."""

import pytest

from ecgjax import chips


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("TPU v4", "TPU v4"),
        ("TPU v5 lite", "TPU v5e"),
        ("TPU v5", "TPU v5p"),
        ("TPU v5p", "TPU v5p"),
        ("TPU v6 lite", "TPU v6e"),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB"),
        ("NVIDIA H100 80GB HBM3", "H100 SXM"),
        ("NVIDIA H200", "H200 SXM"),
        ("NVIDIA L4", "L4"),
    ],
)
def test_chips_are_found_as_jax_calls_them(kind, name):
    found = chips.find(kind)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("kind", ["cpu", "NVIDIA L40S", "NVIDIA A100-SXM4-40GB", "NVIDIA H100 PCIe", "TPU v55"])
def test_others_are_not(kind):
    assert chips.find(kind) is None


def test_the_table_is_in_units():
    for chip in chips.CHIPS:
        assert 1e13 < chip.float32 < chip.bfloat16 < 1e16
        assert 1e10 < chip.memory < 1e12
        assert 1e11 < chip.bandwidth < 1e13
        assert chip.source.startswith("https://")
    assert len({chip.name for chip in chips.CHIPS}) == len(chips.CHIPS)


def test_this_machine_is_measured():
    here = chips.here()
    assert here.float32 > 1e8
    assert here.bandwidth > 1e7
    assert here.memory > 1e8
    assert chips.here() is here  # once
