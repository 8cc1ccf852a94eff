from ecgjax.jobs import sweep
from ecgjax.sweep import plan
from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.sweep.select import selected, tuned
from tests.sweep import stub

AXES = product(
    fixed(stub.CPC), axis("mode", ["linear", "frozen"]), axis("learning_rate", [0.1, 0.2]), axis("seed", [0, 1])
)


def _cells(store, axes=AXES):
    return plan.make(stub.config(store, axes)).cells


def test_validation_chooses_one_setting_of_each_entry_for_all_seeds(store):
    cells = _cells(store)
    scores = [0.6, 0.8, 0.9, 0.4, 0.1, 0.2, 0.5, 0.3]  # the best single cell is not of the best setting
    found = {cell.name: {"validation": score} for cell, score in zip(cells, scores, strict=True)}
    chosen = [(cell.mode, cell.settings["learning_rate"]) for cell in selected(cells, found)]
    assert chosen == [("linear", 0.1)] * 2 + [("frozen", 0.2)] * 2
    # A setting that is not complete does not stand against one that is.
    del found[cells[0].name]
    assert [cell.settings["learning_rate"] for cell in selected(cells, found)] == [0.2] * 4
    assert selected(cells, {}) == []


def test_what_is_not_training_is_not_chosen_away(store):
    axes = product(fixed(stub.S4), axis("data.ratio", [0.5, 1.0]), axis("interval.kind", ["percentile", "bca"]))
    cells = _cells(store, axes)
    assert selected(cells, {cell.name: {"validation": 0.5} for cell in cells}) == list(cells)
    assert not tuned(cells)
    assert tuned(_cells(store))


def test_the_sweep_links_them_for_the_report(store, tmp_path, capsys):
    def better(config, folder):
        stub.run_cell(config, folder, 0.9 if config.learning_rate == rate else 0.6)

    rate = 0.2
    sweep.run(stub.config(store, AXES), tmp_path, better)
    assert f"--config.runs={tmp_path}/selected" in capsys.readouterr().out
    links = {path.name: path for path in (tmp_path / "selected").iterdir()}
    assert set(links) == {cell.name for cell in _cells(store) if cell.settings["learning_rate"] == 0.2}
    assert all((path / "DONE").exists() for path in links.values())
    assert (tmp_path / "cells.csv").read_text().count(",1\n") + (tmp_path / "cells.csv").read_text().count(
        ",1\r\n"
    ) == 4
