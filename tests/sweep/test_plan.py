import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecgjax.errors import UserError
from ecgjax.jobs import sweep
from ecgjax.sweep import plan as planning
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.plan import Plan, parse_shard
from tests.sweep import stub


@given(st.lists(st.integers(0, 2**80 - 1), max_size=40), st.integers(1, 9))
def test_shards_cover_each_cell_once_and_keep_groups_together(groups, count):
    cells = tuple(SimpleNamespace(name=str(i), group=f"{group:020x}") for i, group in enumerate(groups))
    plan = Plan(cells, 0, {})
    shards = [plan.shard(index, count) for index in range(1, count + 1)]
    assert sorted(cell.name for shard in shards for cell in shard) == sorted(cell.name for cell in cells)
    for group in {cell.group for cell in cells}:
        assert sum(any(cell.group == group for cell in shard) for shard in shards) == 1
    sizes = [len({cell.group for cell in shard}) for shard in shards]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/", "-1/2", "1/0"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(UserError, match=r"expected I/N with I from 1 to N"):
        parse_shard(text)


def test_shard_of_nothing_is_all():
    assert parse_shard(None) == parse_shard("") == (1, 1)
    assert parse_shard("2/3") == (2, 3)


def test_each_cell_is_planned_once(store):
    axes = product(fixed(stub.S4), axis("seed", [0, 1]))
    plan = planning.make(stub.config(store, chain(axes, axes, product(fixed(stub.S4), axis("log_every", [5])))))
    assert [cell.settings["seed"] for cell in plan.cells] == [0, 1]
    assert plan.repeated == 3


def test_missing_stores_are_refused_together_or_left_out(store, tmp_path):
    axes = chain(fixed(stub.S4), product(fixed(stub.S4), axis("task", ["ptbxl_all", "ptbxl_super", "sph"])))
    config = stub.config(store, axes, stores=str(tmp_path))
    config.common.data.store = None
    with pytest.raises(UserError, match=rf"{tmp_path}/ptbxl: no such folder.*1 more: {tmp_path}/sph.*skip_missing"):
        planning.make(config)
    config.skip_missing = True
    plan = planning.make(config)
    assert len(plan.cells) == 1
    assert sorted(plan.missing.values()) == [1, 2]


def test_a_sweep_without_cells_is_refused(store):
    with pytest.raises(UserError, match="the sweep has no cell"):
        planning.make(stub.config(store, ()))


def test_a_directory_takes_only_its_own_plan(store, tmp_path):
    def claim(**changes):
        config = stub.config(store, **changes)
        return planning.claim(tmp_path, config, planning.make(config))

    assert claim() == claim(retries=5, shard="1/2", skip_missing=True) == tmp_path
    with pytest.raises(UserError, match=r"6 of its 6 cells are not in this one: config.common.epochs was 1 and is 2;"):
        claim(**{"common.epochs": 2})
    with pytest.raises(UserError, match=r"0 of its 6 cells are not .*: its axes were others; .*config.cells="):
        claim(axes=product(fixed(stub.S4), axis("seed", range(7))))
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan.json: not readable"):
        claim()


def test_dry_run_shows_the_plan_and_writes_nothing(store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ECGJAX_CACHE", str(tmp_path / "cache"))
    heads = product(fixed(stub.CPC), axis("mode", ["linear", "frozen"]), axis("learning_rate", [0.1, 0.2]))
    config = stub.config(store, chain(product(fixed(stub.S4), axis("seed", range(2))), heads), dry_run=True)
    sweep.run(config, tmp_path / "sweep", None)
    printed = capsys.readouterr().out
    assert not (tmp_path / "sweep").exists()
    assert re.search(r"s4 +scratch +synthetic +2 +0 +2 .* -\s", printed)
    assert re.search(r"all +6 +0 +3 .* -\s", printed)
    assert "4 cells in 1 groups see the same batches" in printed
    assert "2 programs are left to run" in printed  # heads on one encoder, and two trainings of one shape
    assert re.search(r"cell by cell +as planned", printed)
    assert re.search(r"TPU v5e +16 GiB +yes +\S+ s +\S+ s", printed)
    assert re.search(r"ecg_cpc +synthetic +4 +recompute: each of 32 windows is encoded once", printed)
    # With finished cells there is a measured throughput: 64 windows in 2 s.
    config.dry_run = False
    config.axes = product(fixed(stub.S4), axis("seed", range(2)))
    sweep.run(config, tmp_path / "sweep", stub_s4)
    capsys.readouterr()
    config.axes, config.dry_run = product(fixed(stub.S4), axis("seed", range(12))), True
    config.cells = str(tmp_path / "sweep" / "cells")
    sweep.run(config, None)
    assert re.search(r"s4 +scratch +synthetic +12 +2 +12 .* 0:20\s", capsys.readouterr().out)


def stub_s4(config, folder):
    import json

    from ecgjax import models

    stub.run_cell(config, folder)
    results = json.loads((folder / "results.json").read_text())
    arguments = dict(models.create("s4", width=8, layers=1).arguments)
    (folder / "results.json").write_text(json.dumps({**results, "arguments": arguments}))


def test_configs_in_the_repository_make_plans(tmp_path):
    from configs import sweep_paper, sweep_smoke

    assert len(planning.make(sweep_smoke.get_config()).cells) == 12
    paper = sweep_paper.get_config("2")
    assert len(paper.axes) == 2 * 14 * (8 * 3 + 2)
    with pytest.raises(UserError, match=r"no such folder"):
        planning.make(paper)
    with pytest.raises(UserError, match=r"expected a number of seeds"):
        sweep_paper.get_config("many")
