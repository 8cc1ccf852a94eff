"""Ranks among models that never saw the data: who takes part, and what rank they get."""

import copy

import pytest

from ecgjax.evaluation.ranks import ranks
from ecgjax.reporting import page_tables, report_tables, schema, unseen
from ecgjax.reporting.published_page import published_report
from tests.reporting.fake_report import fake_report


@pytest.fixture(scope="module")
def report():
    made = fake_report(most_labels=2)
    unseen.add(made)
    schema.validate(made)
    return made


def test_who_never_saw_it():
    assert unseen.pretraining({"weights": None, "seen": None}) == "never"  # nothing was pretrained
    assert unseen.pretraining({"weights": "w", "seen": False}) == "never"
    assert unseen.pretraining({"weights": "w", "seen": True}) == "saw"
    assert unseen.pretraining({"weights": "w", "seen": None}) == "unknown"


@pytest.mark.parametrize("multiplicity", ["none", "holm"])
def test_ranks_are_those_of_a_report_without_the_others(report, multiplicity):
    """Against the rule itself, applied to the comparison with rows and columns struck out."""
    made = copy.deepcopy(report)
    made["settings"]["multiplicity"] = multiplicity
    unseen.add(made)
    for pair in made["pairs"]:
        rows = [made["rows"][i] for i in pair["rows"]]
        kept = [k for k, row in enumerate(rows) if row["mode"] == "scratch" or row["seen"] is False]
        assert [rank is not None for rank in pair["rank_unseen"]] == [k in kept for k in range(len(rows))]
        if multiplicity == "none":
            differ = [[pair["significant"][a][b] for b in kept] for a in kept]
            value = [rows[k]["value"] for k in kept]
            expected = ranks(value, differ, higher_is_better=pair["higher_is_better"])
            assert [pair["rank_unseen"][k] for k in kept] == expected.tolist()
        elif len(kept) < len(rows):
            # Fewer pairs to adjust for: what differed among all still does.
            strict = [[pair["significant"][a][b] for b in kept] for a in kept]
            groups = max(ranks([rows[k]["value"] for k in kept], strict, higher_is_better=pair["higher_is_better"]))
            assert max(pair["rank_unseen"][k] for k in kept) >= groups
    chapman = next(pair for pair in made["pairs"] if pair["task"] == "chapman")
    ranked = dict(zip(chapman["models"], chapman["rank_unseen"], strict=True))
    assert ranked["ecg_jepa"] is None
    assert ranked["s4"] is not None


def test_categories_and_rows(report):
    for entry in report["ranks"]:
        members = [p for p in report["pairs"] if (p["category"], p["mode"]) == (entry["category"], entry["mode"])]
        for model, rank in zip(entry["models"], entry["rank_unseen"], strict=True):
            own = [pair["rank_unseen"][pair["models"].index(model)] for pair in members]
            assert (rank is None) == (None in own)
    row = next(row for row in report["rows"] if (row["task"], row["model"]) == ("chapman", "ecg_cpc"))
    pair = next(p for p in report["pairs"] if (p["task"], p["mode"]) == ("chapman", row["comparison"]))
    assert row["rank_unseen"] == pair["rank_unseen"][pair["models"].index("ecg_cpc")]


def test_tables_and_page(report):
    text = report_tables.as_markdown(report)
    assert text.count("### Ranks among models that never saw the data") == 3
    part = text.split("### Ranks among models that never saw the data, fine-tuned")[1]
    line = next(line for line in part.splitlines() if line.startswith("| Chapman"))
    heads = next(line for line in part.splitlines() if line.startswith("| | ")).split("|")
    cells = dict(zip([head.strip() for head in heads], [cell.strip() for cell in line.split("|")], strict=True))
    assert (cells["ECG-JEPA"], cells["HuBERT-ECG"]) == ("†", "?")
    assert cells["ECG-CPC"].strip("*").isdigit()
    assert "tab:unseen-finetune-fixed" in report_tables.as_latex(report)
    assert '<option value="never">never saw this data</option>' in page_tables.filters(report)
    assert "among models that never saw the data" in page_tables.ranks(report)
    html = page_tables.results(report)
    assert "Rank, unseen" in html
    assert 'data-pretraining="saw"' in html


def test_where_nothing_was_seen_nothing_is_added(report):
    made = copy.deepcopy(report)
    for row in made["rows"]:
        row["seen"] = False
    unseen.add(made)
    assert "never saw" not in report_tables.as_markdown(made)
    assert "never saw" not in page_tables.ranks(made) + page_tables.filters(made)


def test_published_values_are_ranked_by_value():
    made = published_report()
    pair = next(p for p in made["pairs"] if (p["task"], p["mode"]) == ("chapman", "finetune"))
    known = [
        (rank, made["rows"][i]["value"]) for rank, i in zip(pair["rank_unseen"], pair["rows"], strict=True) if rank
    ]
    assert [rank for rank, _ in sorted(known, key=lambda item: -item[1])] == list(range(1, len(known) + 1))
