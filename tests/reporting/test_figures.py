"""Figures show the numbers they are given."""

import numpy as np
import pytest

from ecgjax.reporting.figures import Interval, plot_curves, plot_intervals, save_figure


def test_curves_draw_each_column_where_it_is_known():
    rows = [{"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0, "validation/loss": 3.5}, {"step": 3, "loss": None}]
    figure = plot_curves(rows, {"loss": ["loss", "validation/loss"], "accuracy": ["accuracy"]}, title="run")
    left, right = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_xydata(), [[1, 4], [2, 3]])
    np.testing.assert_array_equal(left.lines[1].get_xydata(), [[2, 3.5]])
    assert (left.get_ylabel(), right.get_ylabel(), len(right.lines)) == ("loss", "accuracy", 0)


def test_intervals_are_drawn_in_order_with_their_numbers():
    figure = plot_intervals(
        [
            Interval("a", 0.7, 0.6, 0.8, "one"),
            Interval("b", 0.9, 0.85, 0.92, "one"),
            Interval("a", 0.5, 0.4, 0.6, "two"),
        ],
        label="AUROC",
        reference=0.5,
    )
    axes = figure.axes[0]
    drawn = [line.get_xydata() for line in axes.lines]
    bars = [xy for xy in drawn if len(xy) == 2 and xy[0, 0] < xy[1, 0]]
    assert [tuple(bar[:, 0]) for bar in bars] == [(0.6, 0.8), (0.85, 0.92), (0.4, 0.6)]
    heights = [bar[0, 1] for bar in bars]
    assert heights == sorted(heights)
    assert axes.yaxis_inverted()
    words = [text.get_text() for text in axes.texts]
    assert "0.900 [0.850, 0.920]" in words
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "a", "one", "two"]


def test_saving_keeps_dots_in_the_name(tmp_path):
    png, svg = save_figure(plot_curves([], {"loss": ["loss"]}), tmp_path / "run.1", dpi=40)
    assert (png.name, svg.name) == ("run.1.png", "run.1.svg")
    assert png.stat().st_size > 0
    assert svg.read_text().startswith("<?xml")


def test_saving_into_a_missing_folder_fails(tmp_path):
    with pytest.raises(FileNotFoundError):
        save_figure(plot_curves([], {"loss": ["loss"]}), tmp_path / "nowhere" / "x")
