"""Whether features are kept: what is counted, what decides, and what a chip needs at least."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecgjax import chips
from ecgjax.data.batch_plans import BatchPlan, EvaluationPlan
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.sweep import costs, feature_choice
from ecgjax.sweep import plan as planning
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.costs import Work
from ecgjax.sweep.feature_choice import Family, choose, decide, families, works
from ecgjax.sweep.units import units
from tests.sweep import stub

CHIP = chips.Chip("test", 4e12, 1e12, 16e9, 1e11, "nowhere")
HEADS = product(fixed(stub.CPC), axis("mode", ["linear", "frozen"]), axis("learning_rate", [0.1, 0.2]))
FAMILY = Family("k", (), 1000, 50_000, ("sequence",), 300, 512, "bfloat16", 1e9, "float32", None)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ECGJAX_CACHE", str(tmp_path / "cache"))


def planned(store, axes, measured=None, **changes):
    cells = planning.make(stub.config(store, axes, **{"common.epochs": 5, "common.batch_size": 16, **changes})).cells
    estimated = {cell.name: costs.of_cell(cell, measured or {}) for cell in cells}
    return cells, units(cells), estimated


def choice(family=FAMILY, **changes):
    return choose(family, Path("/tmp"), **{"free": 1e12, "host_memory": 64e9, "here": CHIP, **changes})


def test_windows_and_uses_are_those_of_the_batches(store):
    """Against the plans of batches that an evaluation makes."""
    opened, window = open_store(store), 250
    lengths = opened.records["samples"].to_numpy()
    plans = {
        split: EvaluationPlan(opened.rows(split), lengths, window=window, batch_size=16)
        for split in ("validation", "test")
    }
    training = BatchPlan(opened.rows("train"), lengths, window=window, batch_size=16, seed=0, epochs=5)
    in_batches, evaluated = len(training) * 16, 5 * plans["validation"].windows + plans["test"].windows
    for crops, changes in (("random", {}), ("fixed", {"common.data.crops": "fixed"})):
        cells, programs, estimated = planned(store, HEADS, **changes)
        (family,) = families(programs, estimated, {})
        assert len(family.cells) == len(cells) == 4
        kept = plans["validation"].windows + plans["test"].windows
        assert family.windows == kept + (64 if crops == "fixed" else 0)
        assert family.uses == evaluated + (in_batches if crops == "fixed" else 0)
        assert family.kinds == ("pooled", "sequence")
        # Both heads of both rates share one pass.
        forward = estimated[cells[0].name].forward
        assert forward > 0
        (shared,) = works(programs, estimated)
        assert shared.flops == forward * (in_batches + evaluated) == estimated[cells[0].name].work.flops
        flops = sum(work.flops for work in works(programs, estimated, [family]))
        assert flops == forward * (family.windows + (0 if crops == "fixed" else in_batches))


def test_bytes_are_those_of_the_files(store, tmp_path):
    _, programs, estimated = planned(store, HEADS)
    (family,) = families(programs, estimated, {})
    cost = estimated[family.cells[0].name]
    assert family.bytes == family.windows * 4 * cost.channels * (cost.tokens + 1)
    assert replace(family, dtype="bfloat16", kinds=("pooled",)).bytes == family.windows * 2 * cost.channels


def test_what_makes_a_family(store):
    def count(axes, **changes):
        _, programs, estimated = planned(store, axes, **changes)
        return len(families(programs, estimated, {}))

    one = fixed({**stub.CPC, "mode": "linear"})
    assert count(HEADS) == 1
    assert count(product(one, axis("seed", range(3)))) == 3  # each draws an encoder
    assert count(product(one, axis("data.ratio", [0.5, 1.0]))) == 1
    assert count(product(one, axis("protocol", ["fixed", "paper"]))) == 2
    assert count(product(one, axis("data.features", ["float32", "bfloat16"]))) == 2
    assert count(product(one, axis("data.seed", [1, 2]))) == 1  # in two groups
    assert count(fixed({**stub.S4})) == 0  # trains its encoder


def test_fractions_share_windows(store):
    one = fixed({**stub.CPC, "mode": "linear"})
    _, programs, estimated = planned(store, product(one, axis("data.ratio", [0.5, 1.0])))
    (family,) = families(programs, estimated, {})
    assert len(programs) == 2
    assert family.windows == 16 + 16  # half of the validation windows are among all of them
    assert family.uses == 5 * 8 + 16 + 5 * 16 + 16


def test_features_are_kept_where_that_costs_less():
    found = choice()
    # 49,000 windows less at 0.3 TFLOP/s of 1 GFLOP each; 307 MB written and read once at 200 MB/s, and 2 s.
    assert found.what == "cache"
    assert found.reason == (
        "1,000 windows x 300 tokens x 512 as bfloat16 = 307 MB; encoded once instead of 50 times saves about 2:43; "
        "compiling, writing and reading takes 5.1 s"
    )
    assert choice(replace(FAMILY, forward=1e6)) == (
        "recompute",
        "1,000 windows x 300 tokens x 512 as bfloat16 = 307 MB; encoded once instead of 50 times saves about 0.16 s; "
        "compiling, writing and reading takes 5.1 s",
    )
    # A measured rate counts for more than a share of the peak.
    assert choice(replace(FAMILY, rate=1e6)).what == "recompute"
    # What does not fit in half of the memory is read in every pass: 51 x 1.5 s.
    assert choice(host_memory=1e8).reason.endswith("saves about 2:43; compiling, writing and reading takes 1:20")
    assert choice(replace(FAMILY, rate=1000), host_memory=1e8).what == "recompute"


def test_room_limits_and_wishes():
    assert choice(free=3e8) == (
        "recompute",
        "1,000 windows x 300 tokens x 512 as bfloat16 = 307 MB, and there is room for 270 MB",
    )
    assert choice(limit=1e8).reason.endswith("and the limit is 100 MB")
    assert choice(replace(FAMILY, uses=1000)) == ("recompute", "each of 1,000 windows is encoded once")
    assert choice(replace(FAMILY, uses=1000), asked="cache").what == "cache"
    assert choice(asked="recompute") == (
        "recompute",
        "as asked; kept, they would be 1,000 windows x 300 tokens x 512 as bfloat16 = 307 MB",
    )
    assert "x 512 and 512 pooled as" in choice(replace(FAMILY, kinds=("pooled", "sequence"))).reason
    assert choice(replace(FAMILY, kinds=("pooled",))).reason.startswith("1,000 windows x 512 as bfloat16 = 1.02 MB;")
    with pytest.raises(UserError, match=r"config.features is 'always'; expected one of auto, cache, recompute"):
        choice(asked="always")


def test_every_family_is_decided(store, monkeypatch):
    monkeypatch.setattr(chips, "here", lambda: CHIP)
    axes = chain(HEADS, product(fixed({**stub.CPC, "mode": "linear"}), axis("seed", [1])))
    cells, programs, estimated = planned(store, axes)
    decided = decide(programs, estimated, {}, asked="recompute")
    assert [len(family.cells) for family, _ in decided] == [4, 1]
    assert {feature_choice.key_of(cell) for cell in cells} == {family.key for family, _ in decided}
    assert feature_choice.place_of(cells[0], None) == store.with_name(store.name + ".features")


def test_a_lower_bound_is_arithmetic_or_bandwidth():
    assert costs.least_seconds(Work(2e12, 1e9, "float32"), CHIP) == 2.0
    assert costs.least_seconds(Work(2e12, 1e9, "bfloat16"), CHIP) == 0.5
    assert costs.least_seconds(Work(1e9, 3e11, "float32"), CHIP) == 3.0


def test_numbers_are_short():
    assert [feature_choice.scaled(number) for number in (0.5, 999, 1234, 2.5e9)] == ["0.5 ", "999 ", "1.23 k", "2.5 G"]
    assert [feature_choice.duration(seconds) for seconds in (0.012, 59, 60, 3700)] == [
        "0.012 s",
        "59 s",
        "1:00",
        "1:01:40",
    ]
    assert np.isfinite(chips.here().float32)
