"""What programs can be compiled for, and what is said when they cannot be."""

import os
from typing import Any

import jax
import pytest
from jax.experimental import topologies

from ecgjax import chips
from ecgjax.compilation import targets
from ecgjax.errors import UserError


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The descriptions that JAX was asked for; it finds none."""
    found: list[dict[str, Any]] = []

    def describe(**description: Any) -> Any:
        found.append(description)
        raise RuntimeError("libtpu.so:\ncannot be opened")

    monkeypatch.setattr(topologies, "get_topology_desc", describe)
    monkeypatch.setattr(os, "environ", {"TPU_MIN_LOG_LEVEL": "0"})
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    return found


@pytest.mark.parametrize(
    "name",
    ["", "v5e", "v5e:", "v5e:4", "v7:2x2", "h100", "h100:0", "h100:-1", "h100:2x2", "a100:1", "Local", "v5e:2x2 "],
)
def test_unknown_topologies(name: str, asked: list[dict[str, Any]]) -> None:
    with pytest.raises(UserError) as refused:
        targets.open_target(name)
    expected = "expected a TPU slice such as v5e:2x2, v4:2x2x1, v5p:2x2x1 or v6e:2x2, h100:N, or local"
    assert str(refused.value) == f"config.topology is {name!r}; {expected}"
    assert not asked


@pytest.mark.parametrize(
    ("name", "platform", "described"),
    [
        ("v5e:2x2", "tpu", {"topology_name": "v5e:2x2"}),
        ("v4:2x2x1", "tpu", {"topology_name": "v4:2x2x1"}),
        ("tpu7x:2x2x1", "tpu", {"topology_name": "tpu7x:2x2x1"}),
        ("h100:8", "cuda", {"topology_name": "h100", "topology": "1x1x8", "target_config": targets.GPUS["h100"]}),
    ],
)
def test_what_compiling_needs_is_missing(
    name: str, platform: str, described: dict[str, str], asked: list[dict[str, Any]]
) -> None:
    with pytest.raises(UserError) as refused:
        targets.open_target(name)
    assert asked == [{"platform": platform, **described}]
    assert str(refused.value) == (
        f"config.topology={name}: cannot be compiled for here (RuntimeError: libtpu.so: cannot be opened); "
        "expected pip install 'ecgjax[aot]' (libtpu, the CUDA plugin and nvidia-cuda-nvcc)"
    )
    # libtpu is told what it would otherwise ask the network for; what the user set stays.
    assert os.environ.get("TPU_SKIP_MDS_QUERY") == ("1" if platform == "tpu" else None)
    assert os.environ["TPU_MIN_LOG_LEVEL"] == "0"


def test_a_chip_without_figures(asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        device_kind = "TPU v9"

    class Slice:
        devices = (Device(),)

    monkeypatch.setattr(topologies, "get_topology_desc", lambda **description: Slice())
    with pytest.raises(UserError, match=r"no figures of a 'TPU v9' in ecgjax/chips.py"):
        targets.open_target("v5e:2x2")


def test_this_machine() -> None:
    found = targets.open_target("local")
    assert found.local
    assert found.devices == jax.local_devices()
    assert found.platform == "cpu"
    assert found.chip == chips.here()
