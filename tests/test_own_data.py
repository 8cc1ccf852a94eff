"""The example of docs/own_data.md, run as it stands."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wfdb

from ecgjax.data.leads import CANONICAL
from ecgjax.data.store import open_store

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "own_data.md").read_text()
RECORDS = 60


def block(marker: str) -> str:
    found = re.search(rf"<!-- {re.escape(marker)} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found.group(1)


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clinic")
    (folder / "my_clinic.py").write_text(block("my_clinic.py"))
    ecg = folder / "clinic" / "ecg"
    ecg.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(RECORDS):
        name, fibrillation = f"{i:04d}", i % 3 == 0
        signal = rng.normal(scale=0.3 if fibrillation else 0.1, size=(2500, 12))
        signal[:, 2] = signal[:, 1] - signal[:, 0]
        gains = {"fmt": ["16"] * 12, "adc_gain": [1000.0] * 12, "baseline": [0] * 12}
        wfdb.wrsamp(name, 250, ["mV"] * 12, list(CANONICAL), signal, **gains, write_dir=str(ecg))
        findings = ";".join((["AFIB"] if fibrillation else ["SR"]) + (["LBBB"] if i % 4 == 0 else []))
        rows.append((name, f"P{i // 2}", 1999 if i == 5 else 2020, "" if i == 7 else findings, "" if i % 5 else 40 + i))
    table = pd.DataFrame(rows, columns=["ecg", "patient", "visit", "findings", "ef"])
    table.to_csv(folder / "clinic" / "registry.csv", index=False)
    (ecg / "0010.dat").write_bytes(b"\0" * 10)
    return folder


def run(folder: Path, line: str, *more: str) -> str:
    command = shlex.split(line.replace("--config=", f"--config={ROOT}/"))
    assert command[0] == "python"
    command = [sys.executable, *command[1:], *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example(clinic: Path) -> None:
    prepare, tasks, evaluate = block("commands").strip().splitlines()
    run(clinic, prepare, "--workers=2")
    store = open_store(clinic / "stores" / "clinic")
    assert len(store) == RECORDS - 2  # one before --since, one cut off
    assert "0010" in (store.path / "rejected.csv").read_text()
    assert store.classes("all") == ("AFIB", "LBBB", "SR", "ef")
    train = store.targets("all")[store.rows("train"), 3]
    assert abs(np.nanmean(train)) < 1e-5
    assert store.records.groupby("patient_id")["fold"].nunique().max() == 1
    assert {"AFIB", "LBBB", "SR", "ef"} <= set(run(clinic, tasks).split())
    small = ["--config.epochs=1", "--config.batch_size=8", "--config.interval.replicates=20"]
    run(clinic, evaluate.replace("model=ecg_cpc", "model=s4"), *small, "--config.model_arguments.width=8")
    results = json.loads((clinic / "runs" / "clinic" / "results.json").read_text())
    assert set(results["tasks"]) == {"clinic", "clinic_rhythm"}
    assert set(results["tasks"]["clinic"]) >= {"auroc", "mae"}
    assert set(results["tasks"]["clinic_rhythm"]["auroc"]["labels"]) == {"AFIB", "SR"}
