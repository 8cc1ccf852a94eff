"""Everything once, small: pretrain, evaluate in four ways, read a genuine recording. Needs no data and no accelerator.

    bash scripts/quickstart.sh                         makes .venv, installs, runs this
    python -m ecgjax.quickstart [--workdir=DIR]        where ecgjax[formats] is installed

What is trained is trained on synthetic ECGs, so the scores compare code paths and settings and say nothing of patients.
Stopped half-way, it continues with the same command.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

import ecgjax
from ecgjax.data.embedded import dicom_recording_path
from ecgjax.data.leads import CANONICAL
from ecgjax.data.recording import Recording
from ecgjax.data.sources.synthetic import DESCRIPTIONS
from ecgjax.errors import UserError
from ecgjax.evaluation.results import RESULTS
from ecgjax.main import fail
from ecgjax.models.weights import load_card, load_heads
from ecgjax.reporting.ecg_paper import plot_ecg
from ecgjax.reporting.figures import Interval, plot_curves, plot_intervals, save_figure
from ecgjax.training.logging import read_metrics

EVALUATIONS = {
    "linear": "ECG-CPC (reduced), linear",
    "frozen": "ECG-CPC (reduced), frozen",
    "finetune": "ECG-CPC (reduced), fine-tuned",
    "scratch": "S4 (reduced), from scratch",
}
"""Mode -> name in the table. The first three start from the weights that were just pretrained."""

_EPOCHS = "--config.epochs=12"  # the config's 20 would take half of six minutes
# Few records and minutes ask for smaller batches and larger rates than the benchmark's.
_BATCH = "--config.batch_size=16"
_RATES = {"linear": 1e-2, "frozen": 3e-3, "finetune": 1e-2, "scratch": 3e-3}
_SHOWN = ("AFIB", "CRBBB", "PVC")


def main(argv: list[str] | None = None) -> None:
    """Console entry point; exits with 2 and one line on stderr if something is wrong with the input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, default=Path("runs/quickstart"), help="where everything is written")
    workdir: Path = parser.parse_args(argv).workdir
    try:
        quickstart(workdir, Console(width=100, highlight=False))
    except UserError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted; the same command continues")


def quickstart(workdir: Path, console: Console) -> None:
    """Runs all parts into `workdir` and prints what came out.

    Raises:
        UserError: the work directory cannot be used, or pydicom is missing.
    """
    begin = time.monotonic()
    recording = ecgjax.read_recording(dicom_recording_path())
    heading = "1/3  Pretraining: ECG-CPC, reduced, on synthetic ECGs"
    _job(heading, "configs/cpc_pretrain.py", workdir / "pretrain", _EPOCHS)
    for number, (mode, name) in enumerate(EVALUATIONS.items(), 1):
        model, start = "ecg_cpc", [f"--config.weights={workdir / 'pretrain'}"]
        if mode == "scratch":
            model, start = "s4", ["--config.model_arguments.width=64", "--config.model_arguments.layers=2"]
        config = f"configs/evaluate.py:model={model},task=synthetic,mode={mode}"
        fields = [*start, _BATCH, f"--config.learning_rate={_RATES[mode]}"]
        _job(f"2/3  Evaluation {number} of {len(EVALUATIONS)}: {name}", config, workdir / mode, *fields)
    _heading("3/3  A genuine recording: the DICOM file inside the pydicom package")
    probabilities = predict(workdir / "finetune", recording)
    results = {mode: json.loads((workdir / mode / RESULTS).read_text(encoding="utf-8")) for mode in EVALUATIONS}
    figures = draw(workdir, results, recording)
    console.print(genuine_table(recording, probabilities))
    console.print(
        "The model, fine-tuned above, has seen synthetic signals only. Its output on a real recording shows the way "
        "from a file to numbers; it is not a diagnosis.\n",
        style="italic",
    )
    console.print(comparison_table(results))
    for what, path in {"everything": workdir, **figures}.items():
        console.print(f"{what:16s}{path}", soft_wrap=True)
    console.print(f"{'took':16s}{time.monotonic() - begin:.0f} s")


def predict(run: Path, recording: Recording) -> dict[str, float]:
    """Probability of each label by a fine-tuned model, averaged over the recording's windows.

    Args:
        run: work directory of an evaluation in mode "finetune".
        recording: whose probabilities.
    """
    card = load_card(run)
    model = ecgjax.load_model(card["model"], run)
    crops = ecgjax.embed(recording.signal, recording.sampling_rate, CANONICAL, model=model).crops
    head = load_heads(run)["linear"]
    logits = crops @ head["kernel"] + head["bias"]
    return dict(zip(card["labels"], (1 / (1 + np.exp(-logits))).mean(axis=0).tolist(), strict=True))


def draw(workdir: Path, results: dict[str, dict[str, Any]], recording: Recording) -> dict[str, Path]:
    """Draws the figures; returns what each is and its PNG."""
    folder = workdir / "figures"
    folder.mkdir(exist_ok=True)
    rows = read_metrics(workdir / "pretrain" / "metrics.jsonl")
    panels = {"contrastive loss": ["loss", "validation_loss"], "accuracy": ["accuracy", "validation_accuracy"]}
    curves = plot_curves(rows, panels, "Pretraining of ECG-CPC (reduced) on synthetic ECGs")
    intervals = []
    for label in ("macro average", *_SHOWN):
        for mode, name in EVALUATIONS.items():
            task = results[mode]["tasks"]["synthetic"]["auroc"]
            found = task if label == "macro average" else task["labels"][label]
            if found["value"] is not None:
                intervals.append(Interval(name, found["value"], found["low"], found["high"], label))
    forest = plot_intervals(intervals, "AUROC, 95 % interval", "Synthetic task (not real patients)", reference=0.5)
    paper = plot_ecg(
        recording.signal,
        recording.sampling_rate,
        title="Genuine recording: test file of the pydicom package",
        statements=[*statements(recording), *measurements(recording)],
        missing=recording.missing,
    )
    figures = {"learning curve": (curves, "pretraining"), "comparison": (forest, "comparison"), "ECG": (paper, "ecg")}
    return {what: save_figure(figure, folder / name)[0] for what, (figure, name) in figures.items()}


def statements(recording: Recording) -> list[str]:
    """What the file itself says of the recording."""
    return [f'statement "{statement}"' for statement in recording.metadata.get("statements", ())]


def measurements(recording: Recording) -> list[str]:
    """The file's own measurements, as far as it has them."""
    found = recording.metadata.get("measurements", {})
    return [f"{name} {item['value']:g} {item['unit']}" for name, item in found.items() if item["value"]]


def genuine_table(recording: Recording, probabilities: dict[str, float]) -> Table:
    """What the file says beside what the model says, the most probable label first."""
    said = [*statements(recording), *measurements(recording)]
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="Genuine recording", title_justify="left")
    for column in ("the file says", "label", "means", "model"):
        table.add_column(column, justify="right" if column == "model" else "left", no_wrap=column != "means")
    for k in range(max(len(said), len(ranked))):
        label, probability = ranked[k] if k < len(ranked) else ("", None)
        shown = "" if probability is None else f"{probability:.2f}"
        table.add_row(said[k] if k < len(said) else "", label, DESCRIPTIONS.get(label, ""), shown)
    return table


def comparison_table(results: dict[str, dict[str, Any]]) -> Table:
    """The evaluations side by side."""
    first = next(iter(results.values()))
    records, task = first["records"], first["tasks"]["synthetic"]["auroc"]
    title = f"Synthetic task, {len(task['labels'])} labels, {records['test']} test records (not real patients)"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for column in ("model and mode", "trained values", "seconds", "macro AUROC", "95 % interval"):
        table.add_column(column, justify="left" if column == "model and mode" else "right")
    for mode, found in results.items():
        macro, parameters = found["tasks"]["synthetic"]["auroc"], found["parameters"]
        seconds = found["seconds"]["training"] + found["seconds"]["testing"]
        interval = f"[{macro['low']:.3f}, {macro['high']:.3f}]"
        name = EVALUATIONS[mode]
        table.add_row(name, f"{parameters['trained']:,}", f"{seconds:.0f}", f"{macro['value']:.3f}", interval)
    return table


def _heading(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def _job(heading: str, config: str, workdir: Path, *fields: str) -> None:
    """Runs a job as anybody would: by its command, which is printed."""
    _heading(heading)
    arguments = [f"--config={config}", f"--workdir={workdir}", *fields]
    print("$ python -m ecgjax.main " + " ".join(arguments), flush=True)
    home = Path(ecgjax.__file__).parents[1]  # the checkout, where configs/ lies
    arguments[0] = f"--config={home / config}"
    code = subprocess.run([sys.executable, "-m", "ecgjax.main", *arguments], check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
