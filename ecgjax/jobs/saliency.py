"""Job "saliency": what a trained model's output for one recording rests on; see configs/saliency.py.

saliency.npz holds values (windows, samples, 12) at sampling_rate (Hz), start (windows,) in seconds, logits (windows,),
score (mean probability, or mean output), label, method and leads; gap (windows,) of integrated gradients.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from ecgjax.atomic import replacing
from ecgjax.data import resampling
from ecgjax.data.crops import evaluation_windows, window_samples
from ecgjax.data.readers import read_recording
from ecgjax.data.recording import Recording
from ecgjax.errors import UserError, disk_errors
from ecgjax.evaluation import saliency
from ecgjax.evaluation.metrics import check_choice
from ecgjax.evaluation.saliency import Saliency
from ecgjax.jobs.trained import Trained, open_run
from ecgjax.models.encoder import CANONICAL_LEADS, ModelSpec
from ecgjax.reporting import style
from ecgjax.reporting.ecg_paper import LAYOUTS, plot_ecg
from ecgjax.reporting.figures import save_figure

NAME = "saliency"
FULL = 99.0
"""Percentile of the absolute values that is drawn in full colour."""

_WORDS = {
    "integrated_gradients": "integrated gradients from a flat line",
    "gradient": "gradient x input",
    "attention": "attention of the pooling head, mean over its heads",
}


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Computes, draws and says what came out.

    Raises:
        UserError: a field, the run, the recording or the work directory cannot be used.
    """
    for name in ("weights", "recording"):
        if not config[name]:
            raise UserError(f"config.{name} is empty; expected a path")
    check_choice("config.method", config.method, saliency.METHODS)
    check_choice("config.layout", config.layout, tuple(LAYOUTS))
    if not config.smooth >= 0:
        raise UserError(f"config.smooth is {config.smooth}; expected seconds, 0 or more")
    if workdir is None:
        raise UserError("--workdir is missing; expected the folder for the figure")
    recording = read_recording(config.recording)
    trained = open_run(Path(config.weights))
    x, starts = cut(recording, trained.model.spec)
    scores = _scores(trained, x)
    output = _output(trained, scores, config.label)
    found = saliency.attribute(
        trained.model.encoder,
        trained.model.variables,
        trained.head,
        trained.params,
        output,
        x,
        config.method,
        config.steps,
    )
    with disk_errors(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
    _save(workdir / f"{NAME}.npz", found, starts, trained, scores[output], output, config.method)
    said = [_said(trained, scores[output], output), *_shares(found), *_exactness(found)]
    figure = plot_ecg(
        recording.signal,
        recording.sampling_rate,
        title=f"{trained.labels[output]}: what {style.model_name(trained.model.spec.name)} rests on",
        statements=[*said, _WORDS[config.method], *_colours(config.method)],
        layout=config.layout,
        start=config.start,
        missing=recording.missing,
        shade=shade(found, starts, trained.model.spec, recording, config.smooth),
    )
    png, _ = save_figure(figure, workdir / NAME)
    for line in (*said, f"{png}, {NAME}.svg, {NAME}.npz"):
        print(line)


def cut(recording: Recording, spec: ModelSpec) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The recording's evaluation windows at the model's rate, (windows, samples, 12), and their starts in seconds.

    Raises:
        UserError: a lead that the model takes is missing, or the recording is shorter than a window.
    """
    absent = [lead for lead in recording.missing if lead in spec.leads]
    if absent:
        raise UserError(f"{recording.id}: no lead {', '.join(absent)}; model {spec.name} needs {', '.join(spec.leads)}")
    rate, signal = recording.sampling_rate, np.asarray(recording.signal, np.float32)
    window = window_samples(spec.seconds, rate)
    _, starts = evaluation_windows(np.array([len(signal)]), window)
    if not len(starts):
        raise UserError(
            f"{recording.id}: {len(signal) / rate:g} s; expected at least the {spec.seconds:g} s window of {spec.name}"
        )
    resample = jax.jit(partial(resampling.resample, rate_in=rate, rate_out=spec.sampling_rate))
    crops = resample(np.stack([signal[start : start + window] for start in starts]))
    return np.nan_to_num(np.asarray(crops)), starts / rate


def shade(
    found: Saliency, starts: NDArray[np.float64], spec: ModelSpec, recording: Recording, seconds: float
) -> NDArray[np.float32]:
    """What is drawn, (samples of the recording, 12): smoothed; 1 from the largest percent on, 0 outside windows."""
    values = saliency.smooth(found.values, round(seconds * spec.sampling_rate))
    largest = np.percentile(np.abs(values), FULL) or np.abs(values).max() or 1.0
    result = np.zeros((len(recording.signal), len(CANONICAL_LEADS)), np.float32)
    time = np.arange(len(result)) / recording.sampling_rate
    for start, window in zip(starts, values, strict=True):
        own = start + np.arange(len(window)) / spec.sampling_rate
        inside = (time >= start) & (time < start + len(window) / spec.sampling_rate)
        for lead in range(result.shape[1]):
            result[inside, lead] = np.interp(time[inside], own, window[:, lead])
    return np.clip(result / largest, -1, 1)


def _scores(trained: Trained, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """(outputs,) means over the windows of probabilities, or of regression outputs."""
    logits = np.asarray(trained.head.apply(trained.params, trained.model.features(x)), np.float64)
    split = trained.n_classification
    return np.concatenate([1 / (1 + np.exp(-logits[:, :split])), logits[:, split:]], axis=1).mean(axis=0)


def _output(trained: Trained, scores: NDArray[np.float64], label: str | None) -> int:
    if label is None:
        return int(np.argmax(scores[: trained.n_classification])) if trained.n_classification else 0
    if label not in trained.labels:
        some = ", ".join(trained.labels[:20]) + (", ..." if len(trained.labels) > 20 else "")
        raise UserError(f"config.label is {label!r}; expected one of the run's {len(trained.labels)}: {some}")
    return trained.labels.index(label)


def _said(trained: Trained, score: float, output: int) -> str:
    kind = "probability" if output < trained.n_classification else "standardised value"
    return f"{trained.labels[output]}: {kind} {score:.3f}, mean over the recording's windows"


def _shares(found: Saliency) -> list[str]:
    """The leads' shares of the absolute values, the largest first, four in a line."""
    shares = np.abs(found.values).sum(axis=(0, 1))
    shares = shares / (shares.sum() or 1)
    order = np.argsort(-shares, kind="stable")
    words = [f"{CANONICAL_LEADS[k]} {100 * shares[k]:.0f} %" for k in order]
    return [f"share of leads: {', '.join(words[:4])},", f"{', '.join(words[4:8])},", ", ".join(words[8:])]


def _colours(method: str) -> list[str]:
    what = "red: attended to" if method == "attention" else "red: raises the output, blue: lowers it"
    return [what, f"full colour: the largest {100 - FULL:g} %"]


def _exactness(found: Saliency) -> list[str]:
    if found.gap is None:
        return []
    return [f"sum: logit minus that of a flat line, off by {np.abs(found.gap).max():.1g} at most"]


def _save(
    path: Path,
    found: Saliency,
    starts: NDArray[np.float64],
    trained: Trained,
    score: float,
    output: int,
    method: str,
) -> None:
    arrays: dict[str, Any] = {"values": found.values, "logits": found.logits, "start": starts, "score": score}
    arrays |= {"sampling_rate": trained.model.spec.sampling_rate, "leads": np.array(CANONICAL_LEADS)}
    arrays |= {"label": trained.labels[output], "method": method}
    if found.gap is not None:
        arrays["gap"] = found.gap
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)
