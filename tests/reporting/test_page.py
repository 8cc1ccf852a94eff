"""The page as a file: complete without a script, nothing from elsewhere, no name that is taken for HTML."""

import base64
import copy
import csv
import gzip
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from ecgjax.reporting import published_page, schema
from ecgjax.reporting.page import write_page
from ecgjax.reporting.page_tables import overview
from ecgjax.reporting.report_figures import Figure

from .fake_report import fake_report

_VOID = {"meta", "img", "br", "input", "link"}


class Page(HTMLParser):
    """Elements, text outside of scripts and styles, and whether tags are closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        assert len(attrs) == len(dict(attrs)), f"attribute twice in {tag} {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        inside = self.open[-1] if self.open else ""
        (self.scripts if inside in ("script", "style") else self.words).append(data)

    def having(self, tag: str, attribute: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag and attribute in attributes]


def figure(folder: Path, kind: str = "forest", title: str = "A figure") -> Figure:
    svg = folder / "figure.svg"
    svg.write_text('<svg xmlns="http://www.w3.org/2000/svg" width="90" height="30"><text y="20">drawn</text></svg>')
    return Figure("figure", title, "What it shows.", svg.with_suffix(".png"), svg, kind)


def small_report() -> dict:
    """The tasks of two categories, with everything a report may hold."""
    report = fake_report(most_labels=9)
    kept = ("adult_ecg_interpretation", "acute_care_prediction")
    for key in ("pairs", "ranks"):
        report[key] = [entry for entry in report[key] if entry["category"] in kept]
    used = {index for pair in report["pairs"] for index in pair["rows"]}
    for pair in report["pairs"]:
        pair["rows"] = [sorted(used).index(index) for index in pair["rows"]]
    report["rows"] = [report["rows"][index] for index in sorted(used)]
    cell = {key: report["rows"][0][key] for key in ("task", "row", "mode", "model", "metric", "protocol")}
    cell |= {"value": 0.9, "low": 0.8, "high": 0.95, "published": 0.91, "published_low": 0.85, "published_high": 0.9}
    cell |= {"difference": -0.01, "overlap": True, "flag": "upper limit below the value"}
    counts = {"cells": 1, "overlap": 1, "close": 1, "flagged": 1, "unflagged_apart": 0}
    report["paper"] = {"counts": counts, "cells": [cell]}
    needs = {"n": 8000.0, "r": 0.31, "low": 0.2, "high": None, "undefined": 0.1, "extrapolated": True, "reason": None}
    fit = {"C": 2.0, "alpha": 0.5, "L0": 0.09, "limits": {"C": [1.0, 3.0], "alpha": [0.4, 0.6], "L0": [0.0, 0.1]}}
    models = {"ecg_cpc": {"fit": fit, "ratio": {"full": needs}}, "s4": {"fit": fit, "ratio": {}}}
    report["label_efficiency"] = [{"task": "echonext", "models": models, "baseline": "s4", "error": "1 − macro AUROC"}]
    schema.validate(report)
    return report


@pytest.fixture(scope="module")
def report() -> dict:
    return small_report()


@pytest.fixture(scope="module")
def text(report: dict, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    write_page(report, [figure(folder)], folder / "index.html")
    return (folder / "index.html").read_text("utf-8")


def data_of(text: str) -> dict:
    block = re.search(r'<script type="text/plain" id="data">([A-Za-z0-9+/=]+)</script>', text)
    assert block is not None
    return json.loads(gzip.decompress(base64.b64decode(block[1])))


def test_everything_is_there_without_a_script(text: str, report: dict) -> None:
    page = Page(text)
    words = " ".join(page.words)
    rows = page.having("tr", "data-model")
    assert len(rows) == len(report["rows"])
    assert {row["data-mode"] for row in rows} == {"finetune", "frozen", "linear", "scratch"}
    for expected in (
        *("10 ECG models on 18 tasks", "These numbers are made up.", "PTB-XL (super)", "ECGFounder"),
        *("runs/broken", "unfinished: no DONE", "upper limit below the value", "Holm, over the pairs"),
        *("not reached in 10 % of replicates", "~0.31", "0.2–∞", "What it shows.", "mean of 2"),
    ):
        assert expected in words
    value = next(row["value"] for row in report["rows"] if row["task"] == "ptbxl_super")
    assert f"{value:.3f}" in words


def test_nothing_comes_from_elsewhere_and_only_its_own_script_may_run(text: str) -> None:
    page = Page(text)
    policy = next(a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "base")
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))


def test_the_embedded_report_is_the_report(text: str, report: dict) -> None:
    found = data_of(text)
    assert [row["run"] for row in found["rows"]] == [row["run"] for row in report["rows"]]
    assert found["runs"] == report["runs"]
    for row, original in zip(found["rows"], report["rows"], strict=True):
        index, value, low, high = row["labels"]
        names = found["label_sets"][index]
        assert names["names"] == list(original["labels"])
        for i, label in enumerate(original["labels"].values()):
            assert (names["known"][i], names["positives"][i]) == (label["known"], label["positives"])
            for rounded, key in ((value, "value"), (low, "low"), (high, "high")):
                np.testing.assert_allclose(rounded[i] or np.nan, label[key] or np.nan, atol=6e-6)
    assert len(found["label_sets"]) <= 18 * 2  # shared by the models of a task


def test_csv_holds_the_rows_in_full_precision(text: str, report: dict) -> None:
    (address,) = [a["href"] for a in Page(text).having("a", "download")]
    lines = list(csv.DictReader(io.StringIO(base64.b64decode(address.split(",")[1]).decode())))
    assert [float(line["value"]) for line in lines] == [row["value"] for row in report["rows"]]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    report = small_report()
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&$title"
    for row in report["rows"][:40]:
        for key in ("model", "task", "row", "category", "mode", "protocol"):
            row[key] = hostile
        row["labels"] = {hostile: next(iter(row["labels"].values()))}
        row["data"] = {**row["data"], "source": hostile}
        row["flag"] = hostile
    for pair in report["pairs"]:
        pair.update(category=hostile, row=hostile, models=[hostile + str(i) for i in range(len(pair["models"]))])
    for entry in report["ranks"]:
        entry.update(category=hostile, models=[hostile + str(i) for i in range(len(entry["models"]))])
    report.update(title=hostile, notes=[hostile], ecgjax=hostile, sources=[hostile])
    report["excluded"] = [{"path": hostile, "reason": hostile}]
    report["paper"]["cells"][0].update(model=hostile, row=hostile, flag=hostile)
    report["label_efficiency"][0].update(task=hostile, models={hostile: {"fit": None, "ratio": None}})
    report["settings"]["kind"] = hostile
    write_page(report, [figure(tmp_path, hostile, hostile)], tmp_path / "index.html")
    page = Page((tmp_path / "index.html").read_text("utf-8"))
    assert sum(tag == "script" for tag, _ in page.elements) == 2
    images = page.having("img", "src")
    assert [image["src"][:14] for image in images] == ["data:image/svg"]
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert hostile in page.words


def test_cells_are_the_rows_that_were_compared(report: dict) -> None:
    page = Page(overview(report))
    buttons = [int(attributes["data-row"]) for attributes in page.having("button", "data-row")]
    assert sorted(buttons) == sorted(index for pair in report["pairs"] for index in pair["rows"])


def test_models_have_one_name_everywhere(report: dict, tmp_path: Path) -> None:
    """Also one that was trained from scratch and pretrained, which only comparisons tell apart."""
    renamed = copy.deepcopy(report)
    for pair in renamed["pairs"]:
        pair["models"] = ["ecg_fm (scratch)" if model == "s4" else model for model in pair["models"]]
    write_page(renamed, [], tmp_path / "index.html")
    text = (tmp_path / "index.html").read_text()
    assert "ECG-FM (scratch)</th>" in text
    assert data_of(text)["shown"]["ecg_fm (scratch)"] == "ECG-FM (scratch)"


def test_a_report_of_one_run_needs_no_comparison(tmp_path: Path) -> None:
    report = small_report()
    report.update(rows=report["rows"][:1], pairs=[], ranks=[], excluded=[], paper=None, label_efficiency=[], notes=[])
    report["rows"][0].update(value=None, low=None, high=None, rank=None, labels={})
    write_page(report, [], tmp_path / "index.html")
    page = Page((tmp_path / "index.html").read_text("utf-8"))
    assert "not defined" in page.words
    hidden = [attributes["id"] for attributes in page.having("section", "hidden")]
    assert hidden == ["overview", "ranks", "efficiency", "figures", "paper", "excluded"]


def test_many_labels_make_no_large_page(tmp_path: Path) -> None:
    report = small_report()
    report["rows"] = report["rows"][:200]
    report.update(pairs=[], ranks=[])
    rng = np.random.default_rng(0)
    for row in report["rows"]:
        value = rng.uniform(0.6, 0.9, 300)
        row["labels"] = {
            f"label {k}": {
                "value": float(x),
                "low": float(x - 0.1),
                "high": float(x + 0.09),
                "known": 2,
                "positives": 1,
            }
            for k, x in enumerate(value)
        }
    write_page(report, [], tmp_path / "index.html")
    labels = 300 * len(report["rows"])
    assert (tmp_path / "index.html").stat().st_size < 1_500_000 + 14 * labels


def test_published_page_ranks_by_value_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = published_page.published_report()
    schema.validate(report)
    assert len(report["rows"]) == 728
    pair = next(pair for pair in report["pairs"] if (pair["task"], pair["mode"]) == ("ptbxl_all", "finetune"))
    values = [report["rows"][index]["value"] for index in pair["rows"]]
    assert pair["rank"] == [1 + sum(other > own for other in values) for own in values]
    age = next(pair for pair in report["pairs"] if pair["metric"] == "mae")
    best = report["rows"][age["rows"][int(np.argmin(age["rank"]))]]
    assert best["value"] == min(report["rows"][index]["value"] for index in age["rows"])
    monkeypatch.setattr(published_page, "write_figures", lambda report, folder: [])
    published_page.main([f"--out={tmp_path}"])
    words = " ".join(Page((tmp_path / "index.html").read_text("utf-8")).words)
    assert "These are the numbers published with arXiv 2509.25095, not results of ecgjax." in words
    assert "Ranks are by value alone." in words
    assert "p adjusted" not in words
