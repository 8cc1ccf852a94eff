"""What all figures of a report share: colours, names, and layouts measured in inches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, GREY, FAINT = "#14171c", "#6b7280", "#c9ced6"

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#14171c")
"""Okabe and Ito's colours, told apart with every common colour blindness; their yellow is too pale for lines."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h", "*")

METRICS = {"auroc": "macro AUROC", "mae": "mean absolute error (SD of the target)"}
"""Axis labels, with units; an AUROC has none."""

SEEN = "the weights saw these recordings in pretraining; released ones without their labels"
"""What a dagger says."""

_MODELS = {
    "ecg_cpc": "ECG-CPC",
    "ecg_fm": "ECG-FM",
    "ecg_founder": "ECGFounder",
    "ecg_jepa": "ECG-JEPA",
    "ecgfm_ked": "ECGFM-KED",
    "hubert_ecg": "HuBERT-ECG",
    "merl_resnet": "MERL (ResNet)",
    "merl_vit": "MERL (ViT)",
    "net1d": "Net1D",
    "s4": "S4",
    "st_mem": "ST-MEM",
}

_CATEGORIES = {
    "adult_ecg_interpretation": "adult ECG interpretation",
    "pediatric_ecg_interpretation": "pediatric ECG interpretation",
    "cardiac_structure_function": "cardiac structure and function",
    "acute_care_prediction": "acute care prediction",
    "non_cardiac_outcomes": "non-cardiac outcomes",
}

MODES = {
    "finetune": "fine-tuned",
    "finetune_attention": "fine-tuned, attention pooling",
    "frozen": "frozen encoder",
    "linear": "linear probe",
    "linear_exact": "linear probe, exact",
    "scratch": "from scratch",
}


def model_name(name: str) -> str:
    """A model's name as its authors write it, "ecg_cpc (scratch)" too; names of other models stay as they are."""
    own, bracket, rest = name.partition(" (")
    return _MODELS.get(own, own) + bracket + rest


def category_name(name: str) -> str:
    """A category in words."""
    return _CATEGORIES.get(name, name.replace("_", " "))


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def mode_name(name: str) -> str:
    """A mode in words."""
    return MODES.get(name, name.replace("_", " "))


def metric_name(name: str) -> str:
    """A metric in words, with its unit."""
    return METRICS.get(name, name)


def look(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each name; no two of the first 77 have both in common."""
    return {name: (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}


def shorten(text: str, most: int) -> str:
    """The text, with its end cut off if it has more than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def counted(count: int, what: str) -> str:
    """A number of things in words, such as "1 term" and "2 terms"."""
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def plain(text: str) -> str:
    """The text as matplotlib shall print it: a dollar sign is a dollar sign, never mathematics."""
    return text.replace("$", r"\$")


@contextmanager
def style() -> Iterator[None]:
    """Settings under which the figures of a report are made and saved.

    Text stays text in SVG files, to be searched and read aloud; the salt makes their identifiers the same every time.
    """
    settings: Any = {
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
        "font.size": 8.5,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.labelsize": 8.5,
        "axes.linewidth": 0.7,
        "axes.titlesize": 9,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "svg.fonttype": "none",
        "svg.hashsalt": "ecgjax",
        "path.simplify": True,
    }
    with matplotlib.rc_context(settings):
        yield


def wide_enough(width: float, title: str, subtitle: str = "") -> float:
    """Inches: `width`, or more where the title needs it."""
    return max(width, 0.25 + max(text_width([title], 11) * 1.12, text_width([subtitle], 8.5)))


def sheet(width: float, height: float, title: str, subtitle: str = "") -> Figure:
    """An empty figure with a title at its upper left.

    Args:
        width: inches.
        height: inches.
        title: bold.
        subtitle: a second line, grey.
    """
    figure = Figure(figsize=(width, height))
    figure.text(0.1 / width, 1 - 0.1 / height, plain(title), fontsize=11, fontweight="bold", va="top")
    if subtitle:
        figure.text(0.1 / width, 1 - 0.34 / height, plain(subtitle), fontsize=8.5, color=GREY, va="top")
    return figure


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a distance from the figure's upper left corner, in inches.

    Layouts are computed, not searched for: matplotlib's layout engines draw every text several times.
    """
    total_width, total_height = figure.get_size_inches()
    bottom = total_height - top - height
    axes = figure.add_axes((left / total_width, bottom / total_height, width / total_width, height / total_height))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def text_width(texts: Sequence[str], size: float = 8) -> float:
    """Inches that the longest text takes at most, in DejaVu Sans."""
    return max((len(text) for text in texts), default=0) * size * 0.62 / 72
