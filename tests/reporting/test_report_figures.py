"""Every figure is drawn, says what it shows, and shows the numbers it is given."""

from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest

from ecgjax.reporting import (
    critical_difference,
    forest,
    label_curves,
    layer_probes,
    rank_map,
    roc,
    similarity_map,
    style,
)
from ecgjax.reporting.report_figures import Figure, write_figures

from .fake_report import fake_report


def small_report() -> dict:
    """Two categories of the made-up report, one mode, with label efficiency and similarity."""
    report = fake_report(most_labels=3)
    kept = ("cardiac_structure_function", "acute_care_prediction")
    for key in ("pairs", "ranks"):
        report[key] = [entry for entry in report[key] if entry["category"] in kept and entry["mode"] == "finetune"]
    report["curves"] = report["curves"][:3]
    measured = {"n": [64, 256, 1024], "value": [0.3, 0.2, 0.15], "low": [0.28, 0.18, None], "high": [0.32, 0.22, None]}
    band = {"n": [64, 1024], "low": [0.28, 0.14], "high": [0.32, 0.16]}
    fit = {"C": 2.0, "alpha": 0.5, "L0": 0.09, "band": band}
    report["label_efficiency"] = [
        {"task": "echonext", "models": {"ecg_cpc": {**measured, "fit": fit}, "s4": {**measured, "fit": None}}}
    ]
    layers = {"layers_x": ["conv", "layer_0"], "layers_y": ["a", "b", "c"]}
    matrix = [[1.0, 0.5, None], [0.2, -0.01, 0.9]]
    report["similarity"] = [
        {"model_x": "ecg_cpc", "model_y": "s4", **layers, "estimator": "unbiased", "matrix": matrix}
    ]
    probe = {"path": "runs/layers", "task": "ptbxl_super", "model": "s4", "value": 0.8, "low": 0.7, "high": 0.85}
    report["probes"] = [{**probe, "layer": layer} for layer in ("conv", "layer_0")]
    return report


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory) -> list[Figure]:
    return write_figures(small_report(), tmp_path_factory.mktemp("figures") / "made")


def test_every_kind_is_there_as_png_and_svg(figures: list[Figure]) -> None:
    kinds = ["ranks", "critical difference", "forest", "label efficiency", "similarity", "curves"]
    assert list(dict.fromkeys(figure.kind for figure in figures)) == kinds
    assert len({figure.name for figure in figures}) == len(figures)
    for figure in figures:
        assert figure.png.read_bytes().startswith(b"\x89PNG")
        assert figure.title in "".join(ElementTree.parse(figure.svg).getroot().itertext())
        assert figure.caption.endswith(".")


def test_the_same_files_from_two_processes(figures: list[Figure], tmp_path: Path) -> None:
    again = write_figures(small_report(), tmp_path, workers=2)
    assert [figure.name for figure in again] == [figure.name for figure in figures]
    for one, other in zip(figures, again, strict=True):
        assert one.svg.read_bytes() == other.svg.read_bytes()


def test_hostile_names_are_text_and_no_paths(tmp_path: Path) -> None:
    report = fake_report(most_labels=1)
    report["pairs"] = [pair for pair in report["pairs"] if pair["task"] == "echonext" and pair["mode"] == "linear"]
    report["ranks"], report["curves"] = [], []
    hostile = r"../../$\frac{1}{<script>&</svg>"
    report["pairs"][0].update(category=hostile, row=hostile, models=[hostile, *report["pairs"][0]["models"][1:]])
    (figure,) = write_figures(report, tmp_path)
    assert figure.png.parent == tmp_path
    assert sorted(path.name for path in tmp_path.iterdir()) == [figure.png.name, figure.svg.name]
    assert hostile in "".join(ElementTree.parse(figure.svg).getroot().itertext())


def test_forest_draws_intervals_and_fills_the_first_rank() -> None:
    values = {"a": (1.0, 0.9, 0.85, 0.95), "b": (2.0, 0.8, None, None), "c": (1.0, 0.88, 0.8, 0.9)}
    (axes,) = forest.draw([forest.Panel("task", "auroc", values)], ["a", "c", "b"], "title", "").axes
    bars = sorted(tuple(map(tuple, bar)) for collection in axes.collections for bar in collection.get_segments())
    assert bars == [((0.8, 1.0), (0.9, 1.0)), ((0.8, 2.0), (0.8, 2.0)), ((0.85, 0.0), (0.95, 0.0))]
    filled = {line.get_markerfacecolor(): line.get_xydata().tolist() for line in axes.lines}
    assert filled == {"white": [[0.8, 2.0]], style.PALETTE[0]: [[0.9, 0.0], [0.88, 1.0]]}
    assert axes.get_xlabel() == "macro AUROC"


def test_groups_are_the_longest_runs_without_a_difference() -> None:
    differ = np.zeros((5, 5), bool)
    for i, j in [(0, 3), (0, 4), (1, 4), (2, 4), (3, 4)]:
        differ[i, j] = differ[j, i] = True
    assert critical_difference.groups([1, 2, 3, 4, 5], differ) == [(0, 1, 2), (1, 2, 3)]
    assert critical_difference.groups([5, 4, 3, 2, 1], differ) == [(3, 2, 1), (2, 1, 0)]
    assert critical_difference.groups([1, 2], ~np.eye(2, dtype=bool)) == []


def test_models_differ_if_one_wins_more_than_half_of_the_tasks() -> None:
    significant, better = np.array([[False, True], [True, False]]), np.array([[False, True], [False, False]])
    win, loss, draw = (significant, better), (significant, better.T), (~significant & significant, better)
    assert critical_difference.differing([win])[0, 1]
    assert not critical_difference.differing([win, loss])[0, 1]
    assert not critical_difference.differing([win, draw])[0, 1]
    assert critical_difference.differing([win, win, loss]).tolist() == [[False, True], [True, False]]


def test_critical_difference_names_models_without_a_rank() -> None:
    differ = np.zeros((3, 3), bool)
    figure = critical_difference.draw(["a", "b", "c"], [1.0, float("nan"), 2.0], {"a": "1"}, differ, "title", "")
    words = [text.get_text() for text in [*figure.texts, *figure.axes[0].texts]]
    assert "no result on every task: b" in words
    assert "a  1" in words
    bar = next(line for line in figure.axes[0].lines if line.get_linewidth() == 3.2)
    assert bar.get_xdata()[0] < 1.0 < 2.0 < bar.get_xdata()[1]


def test_rank_map_writes_ranks_marks_and_gaps() -> None:
    categories = {"adult": ([1.0, None], {"t": [1.0, 2.0], "u": [1.5, None]}), "lonely": ([1.0, 2.0], {"v": [1, 2]})}
    figure = rank_map.draw(["a", "b"], categories, "title", "", marks={("t", "b"): "*"})
    assert [text.get_text() for text in figure.axes[0].texts] == ["1", "–", "1", "2*", "1.5", "–", "1", "2"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        *("adult (median)", "t", "u"),
        *("lonely", "v"),
    ]


def test_label_curves_draw_points_and_fits() -> None:
    entry = small_report()["label_efficiency"][0]
    title, _, draw = label_curves.plan(entry)
    axes = draw().axes[0]
    measured, fitted = axes.lines[0], axes.lines[1]
    np.testing.assert_allclose(measured.get_ydata(), [0.3, 0.2, 0.15])
    np.testing.assert_allclose(fitted.get_ydata()[[0, -1]], [2 / 8 + 0.09, 2 / 32 + 0.09])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "ECG-CPC  C 2, α 0.50, L₀ 0.09",
        "S4  (no fit)",
    ]
    assert title == "Label efficiency: echonext"


def test_similarity_map_keeps_rows_as_rows() -> None:
    title, _, draw = similarity_map.plan(small_report()["similarity"][0])
    axes = draw().axes[0]
    assert axes.get_ylabel() == "layers of ECG-CPC"
    written = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert ((1.5, 0.5), ".50") in written
    assert ((1.5, 1.5), "-.01") in written
    assert len(written) == 5
    assert title == "Similarity of layers: ECG-CPC and S4"


def test_probes_draw_a_panel_for_each_model() -> None:
    probes = small_report()["probes"]
    probes += [{**probes[0], "model": "ecg_cpc", "layer": "conv_0", "value": None, "low": None, "high": None}]
    _, _, draw = layer_probes.plan("ptbxl_super", probes)
    s4, ecg_cpc = draw().axes
    assert [label.get_text() for label in s4.get_xticklabels()] == ["conv", "layer_0"]
    np.testing.assert_allclose(s4.lines[0].get_ydata(), [0.8, 0.8])
    assert ecg_cpc.get_title(loc="left") == "ECG-CPC"
    assert s4.get_ylabel() == "macro AUROC"


def test_roc_and_calibration_show_the_stored_points() -> None:
    curve = {**fake_report(most_labels=1)["curves"][0], "model": "m"}
    _, _, draw = roc.plan_roc([curve, {**curve, "seeds": [7]}], "here")
    axes = draw().axes[0]
    np.testing.assert_allclose(axes.lines[1].get_ydata(), curve["roc"]["tpr"])
    assert [text.get_text()[7:] for text in axes.get_legend().get_texts()] == ["m (seed 0, 1)", "m (seed 7)"]
    _, _, draw = roc.plan_calibration([curve], "here")
    above, below = draw().axes
    np.testing.assert_allclose(above.lines[1].get_ydata(), curve["calibration"]["observed"])
    assert below.get_ylabel() == "records"


def test_settings_of_other_figures_stay_as_they_are() -> None:
    before = matplotlib.rcParams["svg.fonttype"]
    with style.style():
        assert matplotlib.rcParams["svg.fonttype"] == "none"
    assert matplotlib.rcParams["svg.fonttype"] == before
