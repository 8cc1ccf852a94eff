import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecgjax.reporting import report_tables

from .fake_report import MODELS, SCRATCH, fake_report


@pytest.fixture(scope="module")
def report() -> dict:
    return fake_report(most_labels=1)


def section(text: str, title: str) -> list[list[str]]:
    """Cells of the Markdown table below a heading."""
    (part,) = [part for part in text.split("### ") if part.startswith(f"{title}\n")]
    lines = [line for line in part.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_value_stands_in_its_place(report: dict) -> None:
    head, *lines = section(report_tables.as_markdown(report), "Values, frozen encoder, protocol fixed")
    names = "ECG-CPC", "ECG-FM", "ECGFounder", "ECG-JEPA", "ECGFM-KED", "HuBERT-ECG", "MERL (ResNet)", "ST-MEM"
    assert head == ["", *names, "Net1D", "S4"]
    categories = [line[0] for line in lines if not any(line[1:])]
    assert [name.strip("*") for name in categories] == [
        "Adult ECG interpretation",
        "Pediatric ECG interpretation",
        "Cardiac structure and function",
        "Cardiac outcomes",
        "Non-cardiac outcomes",
        "Acute care prediction",
        "Patient characteristics",
    ]
    tasks = {line[0]: line[1:] for line in lines if any(line[1:])}
    assert len(tasks) == 28
    for row in report["rows"]:
        if row["mode"] not in ("frozen", "scratch") or row["role"] == "seed":
            continue
        cell = tasks[row["row"] + (" (MAE ↓)" if row["metric"] == "mae" else "")][
            (*MODELS, *SCRATCH).index(row["model"])
        ]
        rank = row["ranks"]["frozen"]
        number = f"{row['value']:.3f}"
        expected = f"**{number}**" if rank["best"] else number
        assert cell == f"{expected}<sup>{rank['rank']:g}</sup>" + ("†" if row["seen"] else "")


def test_one_best_of_each_task(report: dict) -> None:
    _, *lines = section(report_tables.as_markdown(report), "95 % intervals, linear probe, protocol fixed")
    for line in lines:
        if any(line[1:]):
            numbers = [float(cell.strip("*†").split(" ")[0]) for cell in line[1:]]
            best = min(numbers) if line[0].endswith("(MAE ↓)") else max(numbers)
            bold = [number for number, cell in zip(numbers, line[1:], strict=True) if cell.startswith("**")]
            assert bold == [best]
            assert all(re.fullmatch(r"\*{0,2}\d\.\d{3} \[-?\d\.\d{3}, \d\.\d{3}\]\*{0,2}†?", cell) for cell in line[1:])


def test_ranks_of_categories(report: dict) -> None:
    _, *lines = section(report_tables.as_markdown(report), "Ranks by category, fine-tuned, protocol fixed")
    entries = [entry for entry in report["ranks"] if entry["mode"] == "finetune"]
    assert len(lines) == len(entries) == 7
    for line, entry in zip(lines, entries, strict=True):
        best = min(zip(entry["rank"], entry["mean"], strict=True))
        by_model = dict(zip(entry["models"], zip(entry["rank"], entry["mean"], strict=True), strict=True))
        for cell, model in zip(line[1:], (*MODELS, *SCRATCH), strict=True):
            rank, mean = by_model[model]
            text = f"{rank:g} ({mean:.2f})" if len(entry["tasks"]) > 1 else f"{rank:g}"
            assert cell == (f"**{text}**" if (rank, mean) == best else text)


def test_the_caption_says_how_it_was_made(report: dict) -> None:
    text = report_tables.as_markdown(report)
    assert "p below 0.05 after Holm's adjustment" in text
    assert "†: the weights saw these recordings" in text
    assert "several seeds hold their mean" in text
    plain = {**report, "settings": {**report["settings"], "multiplicity": "none", "aggregation": "mean"}}
    text = report_tables.as_markdown(plain)
    assert "95 % interval of the difference, no adjustment for multiplicity" in text
    assert "The mean over the tasks" in text


def test_missing_values_are_dashes(report: dict) -> None:
    pair = next(pair for pair in report["pairs"] if pair["mode"] == "linear")
    lacking = {**pair, **{key: pair[key][1:] for key in ("models", "rows", "rank")}}
    changed = {**report, "pairs": [lacking if p is pair else p for p in report["pairs"]]}
    _, _, line, *_ = section(report_tables.as_markdown(changed), "Values, linear probe, protocol fixed")
    assert line[1] == "–"
    assert " & -- & " in report_tables.as_latex(changed)


def test_latex_is_balanced(report: dict) -> None:
    text = report_tables.as_latex(report)
    assert_balanced(text)
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 9
    rows = [line for line in text.splitlines() if line.endswith(("\\\\", "\\\\[3pt]")) and "multicolumn" not in line]
    assert {line.count(" & ") for line in rows} == {10}
    assert len(rows) == 3 * (29 + 29 + 8)
    assert "CODE-15\\%" in text
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert len(set(labels)) == len(labels) == 9


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20))
def test_any_name_is_harmless(name: str) -> None:
    report = fake_report(most_labels=1) if not _SMALL else _SMALL[0]
    _SMALL[:] = [report]
    pair = {**report["pairs"][0], "row": name + "x"}
    changed = {**report, "pairs": [pair], "ranks": []}
    assert_balanced(report_tables.as_latex(changed))
    lines = report_tables.as_markdown(changed).splitlines()
    tables = [re.sub(r"\\\\|\\\|", "", line) for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} == {12}


_SMALL: list[dict] = []


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles(report: dict, tmp_path: Path) -> None:
    document = "\\documentclass{article}\\usepackage{booktabs}\\usepackage{graphicx}\\begin{document}"
    (tmp_path / "a.tex").write_text(document + report_tables.as_latex(report) + "\\end{document}")
    subprocess.run(["pdflatex", "-halt-on-error", "a.tex"], cwd=tmp_path, check=True, capture_output=True)


def assert_balanced(text: str) -> None:
    """Braces close what they open, and no special character is bare."""
    text = re.sub(r"(?m)^%.*$|(?<=\{)%$", "", text)
    bare = re.sub(r"\\[\\{}$&%#_]", "", text)
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert depth == 0
    assert bare.count("$") % 2 == 0
    outside = re.sub(r"\$[^$]*\$", "", bare)
    assert not re.search(r"[#%^~_<>]", outside)
