"""scripts/challenge_labels.py: labels and folds of a handful of Challenge records, as source "folder" reads them."""

import csv
import subprocess
import sys
from pathlib import Path

from ecgjax.data.sources.folder_labels import read_labels

SCRIPT = Path(__file__).parent.parent / "scripts" / "challenge_labels.py"
CODES = ("426783006", "426177001,164934002", "427084000", "59118001")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_labels_folds_and_twins(tmp_path: Path) -> None:
    for k in range(40):
        (tmp_path / f"E{k:05d}.hea").write_text(f"E{k:05d} 12 500 5000\n# Age: 60\n# Dx: {CODES[k % 4]}\n")
        (tmp_path / f"E{k:05d}.mat").write_bytes(bytes([0 if k == 4 else k]))
    out, folds = tmp_path / "labels.csv", tmp_path / "folds.csv"
    done = run(tmp_path, "--out", out, "--test-folds", folds)
    assert done.stdout == "40 records: SNR 10, SB 10, STach 10\n", done.stderr
    with open(out, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["SNR"], r["SB"], r["STach"]) for r in rows[:4]] == [
        ("1", "0", "0"), ("0", "1", "0"), ("0", "0", "1"), ("0", "0", "0"),
    ]  # fmt: skip
    assert [sum(r["fold"] == fold for r in rows) for fold in "012"] == [16, 8, 16]
    assert [sum(r["fold"] == "2" and r[name] == "1" for r in rows) for name in ("SNR", "SB", "STach")] == [4, 4, 4]
    # Records 0 and 4 have the same samples.
    assert (rows[4]["patient_id"], rows[4]["fold"]) == ("E00000", rows[0]["fold"])
    assert len({r["patient_id"] for r in rows}) == 39
    assert read_labels(out).classes == ("SNR", "SB", "STach")
    assert folds.read_text().splitlines()[:2] == ["record_id,fold", "E00000,0"]


def test_no_records(tmp_path: Path) -> None:
    done = run(tmp_path, "--out", tmp_path / "labels.csv")
    assert done.returncode == 1
    assert "no header in it; expected records" in done.stderr
