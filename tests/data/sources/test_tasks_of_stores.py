"""The 28 rows carved from stores of miniatures: each takes the columns it should, whatever else its run has."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ecgjax import tasks
from ecgjax.data.preparation.engine import prepare_store
from ecgjax.data.store import Store, open_store
from tests.data.sources import (
    make_challenge,
    make_chapman,
    make_code,
    make_echonext,
    make_mimic,
    make_ptb,
    make_ptbxl,
    make_sph,
    make_zzu_pecg,
)

# Sizes of the rows whose columns do not depend on how many records there are (datasets.md, sections 3 and 4.4 to 4.6).
FIXED = {
    "code15_diag": 6, "echonext": 11, "ptbxl_super": 5, "mimic_deterioration": 6, "mimic_mortality": 7, "mimic_icu": 2,
    "mimic_sex": 1, "mimic_age": 1, "mimic_biometrics": 3, "mimic_ecg_features": 7, "mimic_labs": 18, "mimic_vitals": 6,
}  # fmt: skip
# Head run -> rows that are a part of it.
CARVED = {
    "ptbxl_all": ("ptbxl_diag", "ptbxl_form", "ptbxl_rhythm"),
    "chapman": ("chapman_rhythm",),
    "mimic": (
        "mimic_cardiac", "mimic_noncardiac", "mimic_deterioration", "mimic_mortality", "mimic_icu", "mimic_sex",
        "mimic_age", "mimic_biometrics", "mimic_ecg_features", "mimic_labs", "mimic_vitals",
    ),
}  # fmt: skip


def cohort(letter: str, digits: int, sheet: str) -> Callable[[Path], object]:
    """Writes a cohort of the Challenge whose records have the codes of its sheet in turn."""

    def make(raw: Path) -> None:
        make_challenge.write_workbook(raw)
        codes = [f"{code:.0f}" for _, code in make_challenge.SHEETS[sheet]]
        for i in range(20):
            dx = f"{codes[i % len(codes)]},{codes[0]}"
            name = f"{letter}{i + 1:0{digits}d}"
            make_challenge.write_record(raw, make_challenge.Record(name, make_challenge.signal(i, 60), dx))

    return make


MAKERS: dict[str, Callable[[Path], object]] = {
    "ptb": make_ptb.make,
    "ningbo": make_challenge.make_ningbo,
    "cpsc2018": cohort("A", 4, "CPSC"),
    "cpsc_extra": cohort("Q", 4, "CPSC-Extra"),
    "georgia": cohort("E", 5, "G12EC"),
    "chapman": make_chapman.make,
    "sph": make_sph.make,
    "code15": make_code.make_code15,
    "ptbxl": make_ptbxl.make,
    "echonext": make_echonext.make,
    "zzu_pecg": make_zzu_pecg.make,
    "mimic": lambda raw: make_mimic.make(raw, samples=500),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    """A store of every source of the benchmark, prepared once."""
    made = {}
    for source, make in MAKERS.items():
        raw = tmp_path_factory.mktemp(source) / "raw"
        raw.mkdir()
        make(raw)
        own = {"code_count": 15} if source == "mimic" else {"min_count": 1}
        out = prepare_store(source, raw.parent / "store", raw=raw, workers=1, max_rejected=0.2, **own)
        made[source] = open_store(out)
    return made


def columns(stores: dict[str, Store], name: str) -> list[str]:
    """Classes of a row, in the order of its run's outputs."""
    run, (task, *_) = tasks.get(name)
    store = stores[run.source]
    assert run.label_set is not None
    classes = store.classes(run.label_set)
    return [classes[i] for i in task.select(classes, store.kinds(run.label_set))]


ROWS = [task.name for task in tasks.TASKS.values() if task.row]


def test_there_is_a_store_for_every_row(stores: dict[str, Store]) -> None:
    assert len(ROWS) == 28
    assert {tasks.get(row)[0].source for row in ROWS} == set(stores)


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_its_columns(stores: dict[str, Store], row: str) -> None:
    run, _ = tasks.get(row)
    found = columns(stores, row)
    assert found
    assert len(found) == FIXED.get(row, len(found))
    if row not in CARVED.get(run.name, ()):
        assert run.label_set is not None
        assert found == list(stores[run.source].classes(run.label_set))


@pytest.mark.parametrize("part", ["diag", "form", "rhythm"])
def test_ptbxl_rows_are_what_scp_statements_marks(stores: dict[str, Store], part: str) -> None:
    marked = set(stores["ptbxl"].classes(part))
    # A form statement that the miniature's scp_statements.csv lacks is one nevertheless.
    assert set(columns(stores, f"ptbxl_{part}")) == marked | ({"LVOLT"} if part == "form" else set())


def test_chapman_rhythm_is_the_column_rhythm(stores: dict[str, Store]) -> None:
    store = stores["chapman"]
    found = columns(stores, "chapman_rhythm")
    assert found == list(store.classes("rhythm"))
    assert len(found) < len(store.classes("all"))
    picked = [store.classes("all").index(name) for name in found]
    np.testing.assert_array_equal(store.targets("all")[:, picked], store.targets("rhythm"))


def test_every_output_of_mimic_is_in_one_row(stores: dict[str, Store]) -> None:
    carved = [columns(stores, row) for row in CARVED["mimic"]]
    assert sorted(name for found in carved for name in found) == sorted(stores["mimic"].classes("all"))
    assert sum(map(len, carved[2:])) == 15 + 1 + 35
    assert {name[0] for name in carved[0]} == {"I"}
    assert "I" not in {name[0] for name in carved[1]}


def test_mimic_codes_at_their_full_number() -> None:
    """158 of chapter IX and 918 others, of three to five characters, as the published vocabulary has."""
    rng = np.random.default_rng(0)

    def codes(letters: str, number: int, *, known: tuple[str, ...]) -> list[str]:
        made = dict.fromkeys(known)
        while len(made) < number:
            tail = "".join(rng.choice(list("0123456789ABCZ"), rng.integers(1, 4)))
            made[f"{rng.choice(list(letters))}{rng.integers(10)}{tail}"] = None
        return list(made)

    cardiac = codes("I", 158, known=("I10", "I25", "I251", "I2510", "I48", "I50", "I489", "I4891", "I129"))
    others = codes("ABCDEFGHJKLMNOPQRSTUVWXYZ", 918, known=("E78", "E785", "Z79", "V45", "V173", "M1A", "C7A", "O9A"))
    classes = list(rng.permutation([*cardiac, *others]))
    of = {name: {classes[i] for i in tasks.TASKS[name].select(classes, ["classification"] * 1076)} for name in ROWS}
    assert of["mimic_cardiac"] == set(cardiac)
    assert of["mimic_noncardiac"] == set(others)
    sizes = [tasks.TASKS[row].classes for row in ("mimic_cardiac", "mimic_noncardiac")]
    assert sizes == [len(cardiac), len(others)]
    assert not any(of[row] for row in CARVED["mimic"][2:])
