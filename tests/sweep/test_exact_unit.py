"""Exact probes in a sweep: features once, results as of each alone."""

import json

import numpy as np
import pytest

from ecgjax.jobs import evaluate_exact, sweep
from ecgjax.sweep import costs, feature_choice, plan
from ecgjax.sweep.axes import axis, chain, fixed, product
from ecgjax.sweep.units import FOLDER, units
from tests.sweep import fused

pytestmark = pytest.mark.usefixtures("tiny", "undrawn")

BASE = fixed({"model": "tiny", "mode": "linear_exact", "probe.strengths": (1e-3, 1e-1)})
AXES = chain(
    product(BASE, axis("data.labels", ["labels", "joint"]), axis("seed", range(2))),
    product(BASE, fixed({"data.labels": "labels", "data.ratio": 0.5, "learning_rate": 0.5})),
)


@pytest.mark.parametrize("features", ["auto", "cache"])
def test_cells_equal_those_run_alone(store, weights, tmp_path, monkeypatch, features):
    passes, obtain = [], evaluate_exact.features.obtain

    def counted(*arguments, **options):
        passes.append(options["folder"])
        return obtain(*arguments, **options)

    monkeypatch.setattr(evaluate_exact.features, "obtain", counted)
    config = fused.config(store, weights, AXES, features=features, features_folder=str(tmp_path / "features"))
    cells = plan.make(config).cells
    (unit,) = units(cells)
    assert (unit.kind, len(unit.cells)) == ("exact", 5)
    sweep.run(config, tmp_path / "sweep")
    assert len(passes) == 1
    assert (tmp_path / "features").exists() == (features == "cache")
    store_of_cells = tmp_path / "sweep" / "cells"
    assert not (store_of_cells / FOLDER).exists()
    for cell in cells:
        folder, alone = store_of_cells / cell.name, fused.run_alone(cell, tmp_path / "alone" / cell.name)
        fused.check_equal(folder, alone)
        assert "one of 5 probes" in (folder / "log.txt").read_text()
        assert json.loads((folder / "summary.json").read_text())["measured"] is None


def test_what_only_steps_use_makes_no_other_cell(store, weights):
    axes = product(BASE, axis("learning_rate", [0.1, 0.2]), axis("data.crops", ["random", "fixed"]))
    made = plan.make(fused.config(store, weights, axes))
    assert (len(made.cells), made.repeated) == (1, 3)
    other = plan.make(fused.config(store, weights, product(BASE, fixed({"probe.choose": "each"}))))
    assert other.cells[0].name != made.cells[0].name


def test_one_that_fails_leaves_the_others(store, weights, tmp_path, monkeypatch):
    fit = evaluate_exact.fit

    def failing(subject, *arguments):
        if subject.data.label_set == "joint":
            raise ValueError("of this one")
        fit(subject, *arguments)

    monkeypatch.setattr(evaluate_exact, "fit", failing)
    axes = product(BASE, axis("data.labels", ["joint", "labels"]))
    with pytest.raises(SystemExit):
        sweep.run(fused.config(store, weights, axes, retries=0), tmp_path)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["cells"]["done"], status["cells"]["failed"]) == (1, 1)


def test_each_window_is_counted_once(store, weights):
    mixed = product(fixed({"model": "tiny"}), axis("mode", ["linear", "linear_exact"]))
    cells = plan.make(fused.config(store, weights, mixed)).cells
    estimated = {cell.name: costs.of_cell(cell, {}) for cell in cells}
    exact = estimated[next(cell.name for cell in cells if cell.mode == "linear_exact")]
    assert exact.windows == (128, 16, 16)
    assert exact.work.flops == exact.forward * 160
    programs = units(cells)
    assert sorted(unit.kind for unit in programs) == ["single", "single"]
    (family,) = feature_choice.families(programs, estimated, {})
    assert [cell.mode for cell in family.cells] == ["linear"]
    works = feature_choice.works(programs, estimated, [family])
    assert np.isclose(sum(work.flops for work in works), exact.work.flops + 3 * 64 * exact.forward + 32 * exact.forward)
