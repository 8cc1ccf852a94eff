"""The paper is to scale, shows what it is given, and says what it cannot draw."""

from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from ecgjax.errors import UserError
from ecgjax.models.encoder import CANONICAL_LEADS
from ecgjax.reporting import ecg_paper
from ecgjax.reporting.ecg_paper import plot_ecg
from ecgjax.reporting.figures import save_figure


@pytest.fixture
def signal() -> np.ndarray:
    """A 1 mV step of 0.2 s each second in every lead, lead k higher by 0.01 k mV."""
    beat = (np.arange(5000) % 500 < 100).astype(np.float32)
    return beat[:, None] * (1 + 0.01 * np.arange(12, dtype=np.float32))


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def traces(figure: Figure) -> list[np.ndarray]:
    return [line.get_xydata() for line in figure.axes[0].lines if len(line.get_xydata()) > 20]


@pytest.mark.parametrize(("layout", "count", "seconds"), [("3x4", 13, 2.5), ("12x1", 12, 10.0)])
def test_traces_are_25_mm_per_second_and_10_mm_per_millivolt(signal, layout, count, seconds):
    figure = plot_ecg(signal, 500, layout=layout)
    drawn = traces(figure)
    assert len(drawn) == count
    assert np.ptp(drawn[0][:, 0]) == pytest.approx(25 * seconds, abs=0.06)
    assert np.ptp(drawn[0][:, 1]) == pytest.approx(10.0, abs=1e-4)
    assert sorted(set(words(figure)) & set(CANONICAL_LEADS)) == sorted(CANONICAL_LEADS)


def test_figure_is_in_true_millimetres(signal):
    figure = plot_ecg(signal, 500)
    width, height = figure.get_size_inches() * 25.4
    left, right = figure.axes[0].get_xlim()
    bottom, top = figure.axes[0].get_ylim()
    assert (right - left, top - bottom) == pytest.approx((width, height))


def test_each_lead_is_drawn_from_its_own_column_and_time(signal):
    signal = np.where(np.arange(5000)[:, None] // 1250 == 2, signal, 0.0)  # only the third column of time
    drawn = traces(plot_ecg(signal, 500))
    heights = [round(float(np.ptp(xy[:, 1])) * 10) / 100 for xy in drawn]
    # Row by row I aVR V1 V4, II aVL V2 V5, III aVF V3 V6, II: only V1, V2, V3 and the rhythm strip have beats.
    assert heights == [0, 0, 1.06, 0, 0, 0, 1.07, 0, 0, 0, 1.08, 0, 1.01]


def test_gaps_stay_gaps_and_missing_leads_are_said_to_be(signal):
    signal[500:600] = np.nan
    signal[:, 11] = np.nan
    figure = plot_ecg(signal, 500, missing=("V1",))
    assert words(figure).count("not recorded") == 2
    assert np.isnan(traces(figure)[0][500:600, 1]).all()


def test_title_statements_and_scale_are_printed(signal):
    figure = plot_ecg(signal, 500, title="Synthetic ECG", statements=("one", "two"))
    assert {"Synthetic ECG", "one", "two"} <= set(words(figure))
    assert any("25 mm/s" in text and "10 mm/mV" in text and "500 Hz" in text for text in words(figure))


def test_png_and_svg_are_written_and_nothing_else(signal, tmp_path):
    png, svg = save_figure(plot_ecg(signal, 500), tmp_path / "ecg", dpi=50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ecg.png", "ecg.svg"]
    assert imread(png).shape[1] == pytest.approx(278 / 25.4 * 50, abs=2)
    width = ElementTree.parse(svg).getroot().get("width")
    assert width.endswith("pt")
    assert float(width[:-2]) == pytest.approx(278 / 25.4 * 72, abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"signal": np.zeros((12, 5000))}, "shape"),
        ({"layout": "6x2"}, "6x2"),
        ({"start": 10.0}, "start"),
        ({"start": -1.0}, "start"),
    ],
)
def test_what_cannot_be_drawn_is_named(signal, arguments, named):
    with pytest.raises(UserError, match=named):
        plot_ecg(arguments.pop("signal", signal), 500, **arguments)


def test_calibration_pulse_is_one_millivolt_for_a_fifth_of_a_second(signal):
    pulses = [line.get_xydata() for line in plot_ecg(signal, 500).axes[0].lines if len(line.get_xydata()) == 6]
    assert len(pulses) == 4
    for pulse in pulses:
        assert np.ptp(pulse[:, 1]) == pytest.approx(10.0)
        assert pulse[3, 0] - pulse[2, 0] == pytest.approx(5.0)


def test_shade_lies_below_the_trace_where_it_is(signal):
    shade = np.zeros((5000, 12), np.float32)
    shade[1000:1100, 3], shade[2000:2100, 3] = 1.0, -0.5  # aVR, for and against
    figure = plot_ecg(signal, 500, layout="12x1", shade=shade)
    halo = [c for c in figure.axes[0].collections if c.get_linewidths()[0] > 4 and len(c.get_segments())]
    (own,) = halo
    times = np.array([segment[0, 0] for segment in own.get_segments()])
    seconds = (times - 15.0) / 25.0
    assert seconds.min() == pytest.approx(2.0, abs=0.03)
    assert seconds.max() == pytest.approx(4.18, abs=0.03)
    colours = own.get_colors()
    red, blue = colours[seconds < 3], colours[seconds > 3]
    assert (red[:, 0] > red[:, 2]).all()
    assert (blue[:, 2] > blue[:, 0]).all()
    paper = np.array(to_rgb(ecg_paper._PAPER))
    strength = [(paper - c[0, :3]) / (paper - full) for c, full in ((red, ecg_paper._FOR), (blue, ecg_paper._AGAINST))]
    np.testing.assert_allclose(strength[0], 2 * strength[1])
    assert not [c for c in plot_ecg(signal, 500).axes[0].collections if c.get_linewidths()[0] > 4]
    with pytest.raises(UserError, match=r"shade has shape \(10, 12\)"):
        plot_ecg(signal, 500, shade=np.zeros((10, 12)))
