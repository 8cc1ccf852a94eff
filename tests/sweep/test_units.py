import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.sweep.cells import Cell, resolve
from ecgjax.sweep.units import units
from tests.sweep.stub import CPC, S4


def _cell(name, group, mode="linear"):
    return Cell(name, {}, {"mode": mode, "model": "ecg_cpc"}, {}, group)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30), st.integers(1, 7))
def test_every_cell_is_in_one_unit_of_its_group(groups, most):
    cells = [_cell(str(i), group) for i, group in enumerate(groups)]
    found = units(cells, most_heads=most)
    assert sorted(int(cell.name) for unit in found for cell in unit.cells) == list(range(len(cells)))
    for unit in found:
        assert len({cell.group for cell in unit.cells}) == 1
        assert len(unit.cells) <= most
        assert unit.kind == ("single" if len(unit.cells) == 1 else "fused")
        places = [int(cell.name) for cell in unit.cells]
        assert places == sorted(places)
    for group in set(groups):  # no more units than needed, none much smaller than another
        sizes = [len(unit.cells) for unit in found if unit.cells[0].group == group]
        assert len(sizes) == -(-groups.count(group) // most)
        assert max(sizes) - min(sizes) <= 1
    firsts = [int(unit.cells[0].name) for unit in found]
    assert firsts == sorted(firsts)
    assert [unit.name for unit in units(cells, most_heads=most)] == [unit.name for unit in found]


def test_cells_that_train_their_encoder_run_alone_or_are_stacked():
    cells = [_cell(str(i), str(i), "finetune") for i in range(5)] + [_cell("x", "x", "scratch")]
    assert [unit.kind for unit in units(cells)] == ["single"] * 6
    stacked = units(cells, stacking=lambda cell: ("like", 2) if cell.mode == "finetune" else None)
    assert [(unit.kind, len(unit.cells)) for unit in stacked] == [
        ("single", 1), ("stacked", 2), ("stacked", 2), ("single", 1),
    ]  # fmt: skip


def test_halves():
    (unit,) = units([_cell(str(i), "a") for i in range(3)])
    halves = unit.halves()
    assert [(half.kind, [cell.name for cell in half.cells]) for half in halves] == [
        ("fused", ["0", "1"]), ("single", ["2"]),
    ]  # fmt: skip
    assert len({unit.name, *(half.name for half in halves)}) == 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from ecgjax.models.model import load_model
    from ecgjax.models.weights import save_weights

    root = tmp_path_factory.mktemp("weights")
    model = load_model("ecg_cpc", width=8, layers=1)
    save_weights(root / "ecg_cpc", model.encoder, model.variables)
    return str(root)


def test_seeds_share_an_encoder_where_they_share_the_batches(store, weights):
    def cell(weights, **change):
        point = {key: value for key, value in CPC.items() if weights is None or "arguments" not in key}
        return resolve({**point, "mode": "linear", **change}, {"data.store": str(store)}, weights, None)

    def count(weights, **change):
        return len(units([cell(weights, seed=seed, **change) for seed in range(3)]))

    assert count(weights) == 3
    assert count(weights, **{"data.seed": 7}) == 1
    assert count(None, **{"data.seed": 7}) == 3  # the seed draws the encoder as well
    assert count(weights, **{"data.seed": 7, "data.ratio": 0.5}) == 3  # and the subset
    assert cell(weights, seed=3).name == cell(weights, seed=3, **{"data.seed": 3}).name
    assert cell(weights, seed=3).group == cell(weights, seed=4, **{"data.seed": 3}).group
    assert cell(weights).group != cell(weights, **{"data.crops": "fixed"}).group
    assert cell(weights).group != cell(weights, **{"data.seed": 7}).group


def test_other_streams_are_other_cells(store):
    def name(**change):
        return resolve({**S4, **change}, {"data.store": str(store)}, None, None).name

    assert len({name(), name(**{"data.seed": 1}), name(**{"data.crops": "fixed"}), name(seed=1)}) == 4


def test_cells_of_one_pool_are_one_unit():
    cells = [_cell(str(i), f"group {i // 2}") for i in range(6)] + [_cell("6", "group 3", "frozen")]
    found = units(cells, pool=lambda cell: "pool" if cell.mode == "linear" else None)
    assert [len(unit.cells) for unit in found] == [6, 1]


def test_fixed_crops_pool_what_reads_the_same_features(store):
    def cell(**change):
        point = {**CPC, "mode": "linear", "data.crops": "fixed", **change}
        return resolve(point, {"data.store": str(store), "data.labels": "labels"}, None, None)

    assert cell().pool == cell(**{"data.ratio": 0.5}).pool == cell(**{"data.seed": 4}).pool
    assert cell(learning_rate=1.0).pool == cell(mode="frozen").pool == cell().pool
    assert cell(seed=1).pool != cell().pool  # another encoder: it is drawn by the seed
    assert len({cell().pool, cell(epochs=2).pool, cell(batch_size=8).pool, cell(protocol="paper").pool}) == 4
    assert cell(**{"data.crops": "random"}).pool is None
    assert cell(mode="finetune").pool is None
