"""Label efficiency from subsets to data needs, with models that train in a second."""

import json
import signal
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

from configs.label_efficiency import get_config
from ecgjax import bootstrap, metrics
from ecgjax.data.recording import Recording
from ecgjax.data.store import open_store
from ecgjax.data.store_writer import StoreWriter
from ecgjax.data.subsets import subset
from ecgjax.errors import UserError
from ecgjax.evaluation import labelled, scaling
from ecgjax.evaluation.collect import collect
from ecgjax.jobs import evaluate, label_efficiency
from ecgjax.reporting import efficiency_report
from ecgjax.sweep.axes import axis, product
from ecgjax.sweep.cells import resolve
from ecgjax.training.checkpoints import Checkpoints
from tests.jobs.evaluate_run import read_predictions, read_results

pytestmark = pytest.mark.usefixtures("quick")
RATIOS = (1.0, 1 / 2, 1 / 4)
NAMES = ("tiny_scratch", "tiny_linear")


@pytest.fixture(scope="module")
def quick(tiny):
    """Programs of single cells, which are alike, are compiled once."""
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    yield
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)


def _config(store, labels="labels", models="tiny:scratch+tiny:linear", **changes):
    config = get_config(f"task=synthetic,models={models}")
    small = {"data.store": str(store), "data.labels": labels, "data.validation": "full", "epochs": 2, "batch_size": 24}
    small |= {"interval.replicates": 40, "ratios": RATIOS, "at": (20, 40)}
    config.update_from_flattened_dict({**small, **changes})
    return config


def _read(folder):
    return json.loads((folder / "label_efficiency.json").read_text())


def _spy(patch, folder, started):
    """Notes which cells are trained."""
    run = evaluate.run

    def spy(config, workdir):
        started.append(workdir.relative_to(folder).as_posix())
        run(config, workdir)

    patch.setattr(evaluate, "run", spy)


@pytest.fixture(scope="module")
def stopped(store, tmp_path_factory, quick):
    """A study stopped by SIGTERM in its fourth training and finished by the same command; what each of them trained."""
    folder = tmp_path_factory.mktemp("study")
    first, second, sent = [], [], []
    save = Checkpoints.save

    def save_and_stop(self, *arguments, **options):
        if len(first) == 4 and not sent:
            sent.append(True)
            signal.raise_signal(signal.SIGTERM)
        save(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        _spy(patch, folder / "cells", first)
        patch.setattr(Checkpoints, "save", save_and_stop)
        with pytest.raises(SystemExit) as left:
            label_efficiency.run(_config(store), folder)
    assert left.value.code == 143
    assert not (folder / "DONE").exists()
    with pytest.MonkeyPatch.context() as patch:
        _spy(patch, folder / "cells", second)
        label_efficiency.run(_config(store), folder)
    return folder, first, second


@pytest.fixture(scope="module")
def study(stopped):
    return stopped[0]


def test_a_stopped_study_trains_what_is_left(stopped):
    folder, first, second = stopped
    cells = [f"{name}/ratio_{share}_seed_0" for share in ("1-4", "1-2", "1") for name in sorted(NAMES)]
    assert first == cells[:4]
    assert second == cells[3:]
    assert {path.parent.relative_to(folder / "cells").as_posix() for path in folder.glob("cells/*/*/DONE")} == {*cells}


def test_a_finished_study_is_shown_not_repeated(store, study, monkeypatch, capsys):
    started = []
    _spy(monkeypatch, study, started)
    label_efficiency.run(_config(store), study)
    assert not started
    printed = capsys.readouterr().out
    assert "done already" in printed
    assert "synthetic, not real patients" in printed


def test_cells_are_evaluations_on_shares(store, study):
    opened = open_store(store)
    patients = opened.records["patient_id"].to_numpy()
    smaller = set()
    for ratio, share, batch in ((1 / 4, "1-4", 16), (1 / 2, "1-2", 24), (1.0, "1", 24)):
        labels = opened.targets("labels"), opened.classes("labels"), opened.kinds("labels")
        rows = subset(opened, opened.rows("train"), *labels, ratio=ratio)
        assert smaller <= set(rows.tolist())
        smaller = set(rows.tolist())
        for name in NAMES:
            cell = study / "cells" / name / f"ratio_{share}_seed_0"
            found = read_results(cell)
            assert found["data"]["ratio"] == ratio
            assert (found["data"]["subset"], found["data"]["validation"]) == ("nested", "full")
            assert found["records"] == {"train": len(rows), "validation": 8, "test": 8}
            assert found["patients"] == {"train": len(set(patients[rows])), "validation": 4, "test": 4}
            # Fewer records than a batch are one batch.
            assert json.loads((cell / "config.json").read_text())["batch_size"] == min(batch, len(rows))


def test_the_file_says_what_the_predictions_say(study):
    found = _read(study)
    assert found["kind"] == "ecgjax label efficiency"
    assert (found["task"], found["metric"], found["error"]) == ("synthetic", "auroc", "1 − macro AUROC")
    assert found["ratios"] == [0.25, 0.5, 1.0]
    assert found["baseline"] == "tiny_scratch"
    assert found["data"]["synthetic"] is True
    assert found["interval"]["defined"] <= found["interval"]["replicates"] == 40
    assert list(found["models"]) == list(NAMES)
    for name, entry in found["models"].items():
        assert (entry["model"], entry["mode"]) == ("tiny", name.removeprefix("tiny_"))
        assert entry["n"] == [16, 32, 64]
        assert entry["patients"] == [8, 16, 32]
        assert entry["by_seed"] == [entry["value"]]
        curve = scaling.fit(entry["n"], entry["value"])
        fit, band = entry["fit"], entry["fit"]["band"]
        assert [fit["C"], fit["alpha"], fit["L0"]] == pytest.approx(
            [float(curve.scale), float(curve.alpha), float(curve.floor)]
        )
        assert (band["n"][0], band["n"][-1]) == pytest.approx((16, 64))
        np.testing.assert_allclose(band["value"], curve.error(band["n"]))
        assert np.all(np.array(band["low"]) <= band["high"])
        assert all(low <= high for low, high in fit["limits"].values())
        for k, path in enumerate(entry["runs"][0]):
            arrays = read_predictions(study / path)
            expected = bootstrap.intervals(arrays["targets"], arrays["scores"], replicates=40)
            assert 1 - entry["value"][k] == pytest.approx(expected.macro_value)
            limits = [1 - entry["high"][k], 1 - entry["low"][k]]
            if found["interval"]["defined"] == 40:
                assert limits == pytest.approx([expected.macro_low, expected.macro_high])
    base, other = (found["models"][name] for name in NAMES)
    assert base["ratio"] == {}
    assert list(other["ratio"]) == ["20", "40", "full"]
    for key, n in (("20", 20), ("40", 40), ("full", 64)):
        need = other["ratio"][key]
        curves = [scaling.fit(entry["n"], entry["value"]) for entry in (other, base)]
        r = float(scaling.ratio(*curves, n))
        assert need["n"] == n
        assert 0 <= need["undefined"] <= 1
        assert (need["r"] is None) == (need["reason"] is not None) == bool(np.isnan(r))
        if need["r"] is not None:
            assert need["r"] == pytest.approx(r)
            assert need["needed"] == pytest.approx(r * n)
            assert need["extrapolated"] == (not 16 <= r * n <= 64)


def test_figure_and_tables(study):
    assert {file.name for file in (study / "figures").iterdir()} == {"label_efficiency.png", "label_efficiency.svg"}
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    efficiency_report.show(study, console)
    printed = console.export_text()
    assert "r = N*/N" in printed
    assert "N = 64 (full)" in printed
    assert max(map(len, printed.replace(str(study), "").splitlines())) <= 100


def test_a_report_finds_the_study_and_not_its_cells(study):
    found = collect(study)
    assert found.cells == []
    assert [content["task"] for _, content in found.others["label_efficiency"]] == ["synthetic"]


def test_another_study_shares_the_cells(store, study, tmp_path, monkeypatch):
    """More seeds, one model: only the new seed is trained; errors are means."""
    started = []
    _spy(monkeypatch, tmp_path, started)
    config = _config(store, models="tiny:linear", cells=str(tmp_path / "cells"))
    (tmp_path / "cells").symlink_to(study / "cells")
    (study / "cells" / "tiny").symlink_to(study / "cells" / "tiny_linear")
    config.seeds = (0, 1)
    label_efficiency.run(config, tmp_path / "study")
    assert [path for path in started if "seed_0" in path] == []
    assert len(started) == 3
    entry = _read(tmp_path / "study")["models"]["tiny"]
    assert entry["by_seed"][0] == _read(study)["models"]["tiny_linear"]["value"]
    assert entry["value"] == pytest.approx(np.mean(entry["by_seed"], axis=0))
    assert np.shape(entry["runs"]) == (2, 3)
    assert entry["runs"][0][0].endswith("cells/tiny/ratio_1-4_seed_0")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """60 records of 30 patients in five folds, only a measurement to predict."""
    path = tmp_path_factory.mktemp("stores") / "measured"
    rng = np.random.default_rng(0)
    targets = rng.standard_normal((60, 1)).astype(np.float32)
    with StoreWriter(path, source="synthetic", sampling_rate=50.0) as writer:
        for k in range(60):
            signal = (targets[k] + 0.1 * rng.standard_normal((125, 12))).astype(np.float32)
            details = {"sex": ("male", "female", None)[k % 3], "age": float(k) if k % 5 else None}
            patient, fold = f"p{k % 30}", k % 5
            writer.add(Recording(f"r{k}", signal, 50.0), patient_id=patient, fold=fold, metadata=details)
        writer.finish({"amplitude": (("amplitude",), targets, ("regression",))})
    return path


def test_a_measurement_with_the_papers_subsets_and_patients_resampled(measured, tmp_path):
    changes = {"data.subset": "paper", "data.validation": "cut", "interval.unit": "patient", "learning_rate": 0.1}
    rate = {"models.tiny.learning_rate": changes.pop("learning_rate")}
    label_efficiency.run(_config(measured, "amplitude", "tiny:linear", **changes, **rate), tmp_path)
    found = _read(tmp_path)
    assert (found["metric"], found["subset"]) == ("mae", "paper")
    entry = found["models"]["tiny"]
    # Three folds of six patients: one record each, whatever the ratio.
    assert entry["n"][-1] == entry["patients"][-1] == 18
    assert entry["n"] == entry["patients"]
    for k, path in enumerate(entry["runs"][0]):
        arrays = read_predictions(tmp_path / path)
        assert entry["value"][k] == pytest.approx(metrics.mae(arrays["targets"], arrays["scores"], pooled=True))
        assert read_results(tmp_path / path)["records"]["validation"] <= 6
    patients = open_store(measured).records.set_index("record_id")["patient_id"].loc[arrays["record_id"]].to_numpy()
    expected = bootstrap.intervals(arrays["targets"], arrays["scores"], "mae", replicates=40, groups=patients)
    assert [entry["low"][-1], entry["high"][-1]] == pytest.approx([expected.macro_low, expected.macro_high])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "s4"}, "config.baseline is 's4'; expected one of tiny_linear, tiny_scratch"),
        ({"ratios": (1.0, 0.5)}, "expected three or more different shares"),
        ({"ratios": (1.0, 0.5, 0.5)}, "expected three or more different shares"),
        ({"ratios": (1.0, 0.5, 0.0)}, "expected three or more different shares"),
        ({"ratios": (1.0, 0.99, 0.98)}, r"leave .*64 training records; expected three different numbers"),
        ({"seeds": (0, 0)}, "expected different whole numbers"),
        ({"at": (0,)}, "expected positive numbers of training records"),
        ({"interval.kind": "bca"}, "config.interval.kind is 'bca'; expected percentile"),
        ({"data.subset": "random"}, "subset 'random'; expected one of nested, paper"),
    ],
)
def test_bad_config(store, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        label_efficiency.run(_config(store, **changes), tmp_path)
    assert not list(tmp_path.glob("cells/*/*")), "nothing is trained before everything is checked"


def test_cells_of_another_config_are_refused(store, study, tmp_path):
    config = _config(store, cells=str(study / "cells"), epochs=3)
    with pytest.raises(UserError, match=r"config.epochs was 2 and is 3"):
        label_efficiency.run(config, tmp_path)


def test_models_that_cannot_be_tested_on_the_same_records_are_refused(measured, tmp_path, monkeypatch):
    """One of the 2.5 s recordings is cut to 2 s: long enough for one model only."""
    config = _config(measured, "amplitude", **{"models.tiny_linear.model_arguments.seconds": 2.0})
    load = labelled.load

    def shorter(run, seconds, *arguments):
        data = load(run, seconds, *arguments)
        return replace(data, rows={**data.rows, "test": data.rows["test"][int(seconds > 2) :]})

    monkeypatch.setattr(labelled, "load", shorter)
    with pytest.raises(UserError, match=r"windows of 2 and 2.5 s leave out different test records"):
        label_efficiency.run(config, tmp_path)


def test_shares_are_written_as_people_write_them():
    assert [efficiency_report.share(ratio) for ratio in (1, 1 / 128, 0.3, 1e-5)] == ["1", "1/128", "3/10", "1/100000"]


def test_choices():
    config = get_config()
    assert (config.task, config.baseline, sorted(config.models)) == ("synthetic", "s4", ["ecg_cpc", "s4"])
    config = get_config("task=echonext_label_efficiency,models=s4:scratch+ecg_jepa:finetune+ecg_jepa:frozen")
    assert sorted(config.models) == ["ecg_jepa_finetune", "ecg_jepa_frozen", "s4"]
    assert config.ratios[-1] == 1 / 128
    assert config.epochs == 100
    assert config.models.s4.model_arguments.width is None
    for choice, message in (
        ("mode=linear", "'mode=linear' is unknown"),
        ("models=s4:scratch+s4:scratch", "twice in one mode"),
        ("models=s4:quick", "quick"),
        ("models=s5", "s5"),
    ):
        with pytest.raises(UserError, match=message):
            get_config(choice)


def test_finished_runs_of_a_sweep_are_taken(store, tmp_path):
    """What a sweep has trained elsewhere is not trained again; what it has not is."""
    config = _config(store)
    axes = product(axis("data.ratio", [1 / 2]), axis("mode", ["scratch", "linear"]))
    common = {"model": "tiny", "task": "synthetic", "data.store": str(store), "data.labels": "labels", "epochs": 2}
    common |= {"data.validation": "full", "batch_size": 24, "interval.replicates": 7}
    swept = [resolve(point, common, None, None) for point in axes]
    for cell in swept:
        evaluate.run(cell.config(), tmp_path / "sweep" / "cells" / cell.name)
    config.runs, started = str(tmp_path / "sweep"), []
    with pytest.MonkeyPatch.context() as patch:
        _spy(patch, tmp_path / "study" / "cells", started)
        label_efficiency.run(config, tmp_path / "study")
    assert sorted(started) == sorted(f"{name}/ratio_{share}_seed_0" for name in NAMES for share in ("1", "1-4"))
    found = _read(tmp_path / "study")["models"]
    for name, cell in zip(NAMES, swept, strict=True):
        assert found[name]["runs"][0][1] == (tmp_path / "sweep" / "cells" / cell.name).as_posix()
    config.runs = str(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"config\.runs: .*nowhere: no such folder"):
        label_efficiency.run(config, tmp_path / "other")
