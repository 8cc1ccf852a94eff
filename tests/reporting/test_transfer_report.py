"""Tables and the heat map of a study, with cells that are empty, seen, or clearly worse."""

import csv
import io

import pytest
from rich.console import Console

from ecgjax import atomic
from ecgjax.reporting import transfer_report

NAMES = ("PTB-XL", "Georgia", "Ningbo", "SPH", "CODE-15%", "cost $5 a_b")


def interval(value):
    return {"value": value, "low": value - 0.02, "high": value + 0.02}


def make(names):
    def cell(a, b, terms):
        if a == names[-1] and b == names[0]:
            return {
                "train": a, "test": b, "records": 50, "seen": None, "terms": [], "defined": 0, "labels": {},
                **dict.fromkeys(("value", "low", "high", "reference", "drop")),
            }  # fmt: skip
        value = 0.95 if a == b else 0.8 + 0.02 * names.index(a)
        other = (
            {"reference": interval(0.95), "drop": interval(0.95 - value)}
            if a != b
            else dict.fromkeys(("reference", "drop"))
        )
        label = {**interval(value), "known": 50, "positives": 7, **other}
        return {
            "train": a, "test": b, "records": 50, "seen": b == names[1], "terms": terms, **interval(value), **other,
            "defined": len(terms), "labels": dict.fromkeys(terms, label),
        }  # fmt: skip

    removed = {"train": 1234, "validation": 3, "of_the_same_patients": 5, "named_alike_only": 2}
    removed["pairs"] = {"exact": 1000, "signal": 200, "table": 29}
    place = {
        "source": "ptbxl", "label_set": "all", "trained": True, "synthetic": False, "terms": {"AF": ["AFIB"]},
        "unmapped": ["X"], "absent": [], "removed": removed,
    }  # fmt: skip
    pairs = [(a, b) for a in names for b in names]
    return {
        "model": "ecg_cpc", "mode": "frozen", "weights": "0" * 64, "protocol": "fixed", "least": 5, "common": ["AF"],
        "exactness": ["exact"], "overlap": ["signal"],
        "interval": {"kind": "percentile", "level": 0.95, "replicates": 1000, "unit": "record"},
        "stores": {name: {**place, "synthetic": name == names[-1]} for name in names},
        "terms": {
            "AF": {"name": "atrial fibrillation", "snomed": "164889003"}, "NORM": {"name": "normal", "snomed": None},
        },
        "matrices": {
            "pair": [cell(a, b, ["AF", "NORM"]) for a, b in pairs], "common": [cell(a, b, ["AF"]) for a, b in pairs],
        },
    }  # fmt: skip


@pytest.mark.parametrize("count", [2, 6])
def test_files(tmp_path, count):
    found = make(NAMES[:count])
    atomic.write_json(tmp_path / transfer_report.RESULTS, found)
    transfer_report.write(tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert names == {
        "transfer.json", "transfer.csv", "labels.csv", "transfer.md", "figures/transfer.png", "figures/transfer.svg",
    }  # fmt: skip
    text = (tmp_path / "figures" / "transfer.svg").read_text()
    assert text.count(">0.950") >= 2 * (count - 1)
    assert "no common" in text


def test_tables_say_what_is_missing_seen_and_worse():
    found = make(NAMES[:3])
    text = transfer_report.markdown(found)
    line = next(line for line in text.splitlines() if line.startswith("| **PTB-XL**"))
    assert line.split(" | ")[1:] == [
        "0.950 [0.930, 0.970]<br>2 terms",
        "0.800† [0.780, 0.820]<br>2 terms, drop 0.150* [0.130, 0.170]",
        "0.800 [0.780, 0.820]<br>2 terms, drop 0.150* [0.130, 0.170] |",
    ]
    assert "| **Ningbo** | – |" in text
    assert (
        "PTB-XL: 1,237 of its training and validation records left out (3 validation); pairs with test records: 1,000"
        in text
    )
    assert "2 pairs are named alike and have other signals: kept" in text
    rows = list(csv.DictReader(io.StringIO(transfer_report.cells_csv(found))))
    assert len(rows) == 18
    assert {row["value"] for row in rows if (row["train"], row["test"]) == ("Ningbo", "PTB-XL")} == {""}
    labels = list(csv.DictReader(io.StringIO(transfer_report.labels_csv(found))))
    assert len(labels) == 2 * 8
    assert float(labels[0]["value"]) == 0.95


def test_show(tmp_path):
    found = make(NAMES)
    atomic.write_json(tmp_path / transfer_report.RESULTS, found)
    out = io.StringIO()
    transfer_report.show(tmp_path, Console(file=out, width=100, highlight=False))
    text = out.getvalue()
    assert text.count(".780–.820") == text.count("drop .150*") == 2 * 5
    assert text.count("0.800†") == 2
    assert "synthetic: cost $5 a_b" in text
    header = next(line for line in text.splitlines() if "train \\ test" in line)
    assert len(header) <= 100
    assert all(name in header for name in NAMES)
