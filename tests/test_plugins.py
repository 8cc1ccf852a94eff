"""Tasks from somebody's own Python file or package; the table that `python -m ecgjax.tasks` prints."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from ecgjax import models, plugins, tasks
from ecgjax.data.recording import Recording
from ecgjax.data.store_writer import StoreWriter
from ecgjax.errors import UserError
from ecgjax.reporting import task_table
from ecgjax.seen import INCOMPLETE, SEEN, seen_by

OWN = """
from ecgjax.tasks import HeadRun, Task

RUNS = (HeadRun("clinic", "clinic", "all", epochs=3),)
TASKS = (Task("clinic", "clinic"), Task("clinic_rhythm", "clinic", columns=("AFIB", "SR")))
"""


def own_file(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_task_in_a_file(tmp_path: Path) -> None:
    path = own_file(tmp_path, "ecgjax_test_clinic.py", OWN)
    run, found = tasks.get(path)
    assert (run.name, run.epochs) == ("clinic", 3)
    assert [task.name for task in found] == ["clinic", "clinic_rhythm"]
    assert tasks.get(path)[0] is run


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ecgjax_test_broken.py", "import not_there\n", "cannot be loaded .*not_there"),
        ("ecgjax_test_empty.py", "", "RUNS is None; expected a tuple of one ecgjax.tasks.HeadRun"),
        ("ecgjax_test_no_tasks.py", OWN.replace("TASKS", "TASK"), "TASKS must hold tasks of each head run"),
        ("json.py", OWN, "another Python module is called 'json'"),
    ],
)
def test_a_file_without_a_task(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        tasks.get(own_file(tmp_path, name, text))
    with pytest.raises(UserError, match="no such file"):
        tasks.get(str(tmp_path / "ecgjax_test_absent.py"))


def test_tasks_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = own_file(tmp_path, "ecgjax_test_package.py", OWN)
    plugins.load_file(path)
    monkeypatch.setattr(plugins, "installed", lambda group: {"x": "ecgjax_test_package"} if "tasks" in group else {})
    tasks._installed.cache_clear()
    try:
        assert {"clinic", "clinic_rhythm"} <= set(tasks.names())
        assert tasks.get("clinic_rhythm")[1][0].columns == ("AFIB", "SR")
        assert tasks.reported()[-1].name == "clinic_rhythm"
    finally:
        tasks._installed.cache_clear()


def test_seen_names_models_and_sources_of_the_benchmark() -> None:
    assert set(SEEN) <= set(models.names())
    assert set(INCOMPLETE) <= set(SEEN)
    known = {run.source for run in tasks.RUNS.values()} | {"heedb"}
    assert all(set(sources) <= known for sources in SEEN.values())
    assert seen_by("chapman") == ("ecg_fm", "ecg_jepa", "st_mem")
    assert seen_by("sph") == ()


def printed(table: object) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_has_every_row_and_its_published_size() -> None:
    text = printed(task_table.tasks_table({}))
    for task in tasks.TASKS.values():
        assert task.name in text
        assert (task.row or "") in text
        assert task.classes or not task.row
    classes = [task.classes or 0 for task in tasks.TASKS.values() if task.row]
    assert sum(classes) == 1640  # datasets.md, section 2


def test_classes_beside_a_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "stores" / "mine", source="folder", sampling_rate=100.0) as writer:
        for i in range(6):
            signal = rng.normal(size=(200, 12)).astype(np.float32)
            writer.add(Recording(f"r{i}", signal, 100.0), patient_id=f"p{i}", fold=i % 3)
        targets = np.array([[i % 2, i] for i in range(6)], np.float32)
        writer.finish({"labels": (("AFIB", "ef"), targets, ("classification", "regression"))})
    stores = task_table.find_stores(tmp_path / "stores")
    assert "2 of 6" in printed(task_table.tasks_table(stores))
    rows = printed(task_table.classes_table("folder", stores)).splitlines()
    assert next(row.split() for row in rows if "AFIB" in row) == ["AFIB", "3", "1", "1", "1"]
    assert next(row.split() for row in rows if "ef" in row) == ["ef", "6", "2", "2", "2"]
    with pytest.raises(UserError, match="no store in it"):
        task_table.find_stores(tmp_path)


def test_published_classes_of_a_row_that_is_carved_from_its_run() -> None:
    rows = printed(task_table.classes_table("chapman_rhythm", {})).splitlines()
    assert next(row.split() for row in rows if "AFIB" in row) == ["AFIB", "1,780"]
    with pytest.raises(UserError, match="task ptbxl_form: no published class counts"):
        task_table.classes_table("ptbxl_form", {})


def test_nothing_of_the_table_is_cut_off_where_the_screen_is_narrow(capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    task_table.main([])
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(task.name in shown for task in tasks.TASKS.values())


def test_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ecgjax.tasks"], capture_output=True, text=True, check=True, timeout=250
    )
    assert "mimic_noncardiac" in done.stdout
    assert done.stderr == ""
