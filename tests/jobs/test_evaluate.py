import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

import ecgjax
from configs.evaluate import get_config
from ecgjax import bootstrap, models
from ecgjax.data.cutter import Cutter
from ecgjax.errors import UserError
from ecgjax.evaluation import labelled
from ecgjax.jobs import evaluate
from ecgjax.models.model import load_model
from ecgjax.models.weights import save_weights
from ecgjax.reporting import evaluation_report
from ecgjax.tasks import RUNS
from ecgjax.training import optimiser, supervised
from ecgjax.training.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("tiny")
STEPS = 64 // 16  # per epoch: eight training folds of eight records


@pytest.fixture(scope="module")
def weights(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("weights")
    model = load_model("tiny", seed=3, width=32)
    save_weights(folder, model.encoder, model.variables)
    return folder


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory, tiny):
    """A finished run on classes and a measurement."""
    workdir = tmp_path_factory.mktemp("finished")
    evaluate.run(_config(store, labels="joint", protocol="paper", save_crops=True), workdir)
    return workdir


def _config(store, model="tiny", mode="linear", labels="labels", **changes):
    config = get_config(f"model={model},task=synthetic,mode={mode}")
    small = {"data.store": str(store), "data.labels": labels, "epochs": 2, "batch_size": 16, "interval.replicates": 50}
    config.update_from_flattened_dict({**small, **changes})
    return config


def _results(workdir):
    return json.loads((workdir / "results.json").read_text())


def _predictions(workdir):
    with np.load(workdir / "predictions.npz") as file:
        return dict(file)


def _log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.mark.parametrize("mode", ["finetune", "finetune_attention", "frozen", "linear"])
def test_every_mode_ends_with_results(store, weights, tmp_path, mode, capsys):
    evaluate.run(_config(store, mode=mode, weights=str(weights), epochs=6), tmp_path)
    assert (tmp_path / "DONE").exists()
    found, predictions = _results(tmp_path), _predictions(tmp_path)
    assert (found["mode"], found["model"], found["arguments"]["width"]) == (mode, "tiny", 32)
    assert found["weights"] == json.loads((weights / "card.json").read_text())["sha256"]
    assert (found["protocol"], found["absent"]) == ("fixed", "skip")
    assert found["data"]["synthetic"] is True
    trains_encoder = mode.startswith("finetune")
    assert (found["parameters"]["trained"] == found["parameters"]["total"]) == trains_encoder
    assert (tmp_path / "weights" / "card.json").exists() == trains_encoder
    assert predictions["record_id"].tolist() == [f"r{k}" for k in range(72, 80)]
    # results.json says of predictions.npz what the public functions say.
    auroc = found["tasks"]["synthetic"]["auroc"]
    expected = bootstrap.intervals(predictions["targets"], predictions["scores"], replicates=50)
    assert [auroc["value"], auroc["low"]] == pytest.approx([expected.macro_value, expected.macro_low])
    labels = auroc["labels"]
    assert list(labels) == predictions["labels"].tolist() == ["SR", "AFIB", "OFFSET"]
    assert [row["high"] for row in labels.values()] == pytest.approx(expected.high.tolist())
    assert [row["positives"] for row in labels.values()] == predictions["targets"].sum(axis=0).tolist()
    drawn = {file.name for file in (tmp_path / "figures").iterdir()}
    assert drawn == {f"{name}.{suffix}" for name in ("learning_curve", "auroc") for suffix in ("png", "svg")}
    printed = capsys.readouterr().out
    assert "3 of 3 labels" in printed
    assert "early" in printed if trains_encoder else "frozen encoder" in printed
    losses = [line["train/loss"] for line in _log(tmp_path) if "epoch" in line]
    assert losses[-1] < losses[0]


def test_a_published_architecture_learns_from_scratch(store, tmp_path, capsys):
    small = {"model_arguments.width": 16, "model_arguments.layers": 1, "learning_rate": 1e-2, "epochs": 8}
    evaluate.run(_config(store, model="s4", mode="scratch", **small), tmp_path)
    printed = capsys.readouterr().out
    assert "random initialisation" in printed
    assert "late" not in printed  # one rate for everything
    found = _results(tmp_path)
    assert found["weights"] is None
    losses = [line["train/loss"] for line in _log(tmp_path) if "epoch" in line]
    assert losses[-1] < 0.8 * losses[0]


def test_classes_and_measurements_are_trained_together(finished):
    found, arrays = _results(finished), _predictions(finished)
    assert found["absent"] == "half"
    assert found["best"]["criterion"] == "-(1 - macro_auroc + mae)"
    assert arrays["labels"].tolist() == ["SR", "AFIB", "OFFSET", "amplitude"]
    pooled = ecgjax.metrics.mae(arrays["targets"][:, 3:], arrays["scores"][:, 3:], pooled=True)
    assert found["tasks"]["synthetic"]["mae"]["value"] == pytest.approx(pooled)
    assert found["tasks"]["synthetic"]["mae"]["labels"]["amplitude"]["positives"] is None
    epochs = [line for line in _log(finished) if "epoch" in line]
    assert [line["epoch"] for line in epochs] == [1, 2]
    for line in epochs:
        assert line["validation/score"] == pytest.approx(line["validation/macro_auroc"] - 1 - line["validation/mae"])
    assert found["best"]["score"] == max(line["validation/score"] for line in epochs)


def test_record_scores_are_means_over_windows(finished):
    found, arrays = _results(finished), _predictions(finished)
    assert found["windows"] == len(arrays["crop_scores"]) == 2 * found["records"]["test"]
    assert sorted(set(arrays["crop_start"].tolist())) == [0.0, 2.5]
    for record, score in enumerate(arrays["scores"]):
        own = arrays["crop_scores"][arrays["crop_record"] == record]
        np.testing.assert_allclose(own.mean(axis=0), score, rtol=1e-6)
    assert ((arrays["scores"][:, :3] > 0) & (arrays["scores"][:, :3] < 1)).all()


def test_predictions_are_those_of_the_best_checkpoint(store, tmp_path):
    # A rate so large that later epochs are worse: the best is not the last.
    evaluate.run(_config(store, mode="finetune", epochs=4, learning_rate=1.0, labels="joint"), tmp_path)
    scores = [line["validation/score"] for line in _log(tmp_path) if "epoch" in line]
    best = _results(tmp_path)["best"]
    assert best["epoch"] == 1 + int(np.argmax(scores))
    again = tmp_path / "again"
    evaluate.run(_config(store, mode="finetune", epochs=4, learning_rate=1.0, labels="joint"), again)
    np.testing.assert_array_equal(_predictions(tmp_path)["scores"], _predictions(again)["scores"])


def _program(model, mode):
    return supervised.build(
        model,
        supervised.MODES[mode],
        n_classification=3,
        n_regression=0,
        learning_rate=1e-3,
        rate_factor=0.1,
        weight_decay=1e-3,
        seed=0,
    )


def _batch():
    rng = np.random.default_rng(0)
    crop = jnp.asarray(rng.standard_normal((4, 125, 12)), jnp.float32)
    item = {"record": jnp.arange(4), "start": jnp.zeros(4, jnp.int32), "crop": crop, "millivolt": jnp.ones(4)}
    return Cutter(None, 125, 50.0, 50.0), item, jnp.asarray(rng.random((4, 3)) < 0.5, jnp.float32)


@pytest.mark.parametrize("mode", ["frozen", "linear"])
def test_frozen_never_differentiates_the_encoder(monkeypatch, mode):
    model = load_model("tiny")

    @jax.custom_vjp
    def untouchable(x):
        return x

    def backward(_, gradient):
        raise AssertionError("the encoder is differentiated")

    untouchable.defvjp(lambda x: (x, None), backward)
    plain = type(model.encoder).apply

    def apply(self, variables, x, train=False, key=None):
        features, rest = plain(self, variables, x, train, key)
        return features._replace(sequence=untouchable(features.sequence), pooled=untouchable(features.pooled)), rest

    monkeypatch.setattr(type(model.encoder), "apply", apply)
    cutter, item, targets = _batch()
    program = _program(model, mode)
    before = jax.tree.map(np.array, (program.frozen, program.state.params))
    state, loss = program.step(program.state, program.frozen, cutter, item, targets)
    assert np.isfinite(loss)
    assert set(state.params) == {"head"}
    assert [row.group for row in program.groups] == ["head"]
    jax.tree.map(np.testing.assert_array_equal, before[0], program.frozen)
    name = "kernel" if mode == "linear" else "output"
    assert (before[1]["head"][name] != state.params["head"][name]).any()
    tuned = _program(model, "finetune")
    with pytest.raises(AssertionError, match="the encoder is differentiated"):  # the trap does close
        tuned.step(tuned.state, tuned.frozen, cutter, item, targets)


def test_a_frozen_step_costs_a_forward_pass():
    cutter, item, targets = _batch()
    model = load_model("tiny", width=64)
    flops = {}
    for mode in ("linear", "finetune"):
        program = _program(model, mode)
        arguments = program.state, program.frozen, cutter, item
        for name, function, more in (("step", program.step, (targets,)), ("predict", program.predict, ())):
            flops[mode, name] = function.lower(*arguments, *more).compile().cost_analysis()["flops"]
    assert flops["linear", "step"] < 1.05 * flops["linear", "predict"]
    assert flops["finetune", "step"] > 2 * flops["finetune", "predict"]


def test_finetuning_moves_all_groups_at_their_rates_and_updates_running_statistics():
    cutter, item, targets = _batch()
    program = _program(load_model("tiny"), "finetune")
    before = jax.tree.map(np.array, (program.state.params, program.state.rest["batch_stats"]))
    state, _ = program.step(program.state, program.frozen, cutter, item, targets)
    moved = jax.tree.map(lambda a, b: float(np.median(np.abs(a - b))), before[0], state.params)
    assert moved["head"]["kernel"] == pytest.approx(1e-3, rel=0.05)  # Adam's first step is the rate
    assert moved["encoder"]["body"]["kernel"] == pytest.approx(1e-4, rel=0.05)
    assert moved["encoder"]["stem"]["kernel"] == pytest.approx(1e-5, rel=0.05)
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), before[1], state.rest["batch_stats"])))


@pytest.mark.parametrize(("name", "groups"), [("ecg_cpc", ["head", "late", "early"]), ("s4", ["all"])])
def test_rate_groups_of_the_models_cover_every_parameter(name, groups):
    spec = load_model(name, width=16, layers=1).encoder
    params = {"encoder": spec.shapes()["params"], "head": {"kernel": jax.ShapeDtypeStruct((16, 3), jnp.float32)}}
    for mode, expected in (("finetune", groups), ("scratch", ["all"])):
        patterns, rates = supervised.rate_groups_of(spec.spec, supervised.MODES[mode], 1e-3, 0.1)
        _, rows = optimiser.rate_groups(params, patterns, rates)
        assert [row.group for row in rows] == expected
        assert [row.rate for row in rows] == pytest.approx([1e-3 * 0.1**i for i in range(len(rows))])


def test_a_killed_run_continues_as_if_it_had_not_been(store, tmp_path, monkeypatch):
    config = _config(store, mode="finetune", epochs=3, log_every=3)
    evaluate.run(config, tmp_path / "whole")
    save = Checkpoints.save

    def save_and_die(self, step, *arguments, **named):
        save(self, step, *arguments, **named)
        if step == 2 * STEPS:
            self.wait()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(config, tmp_path / "cut")
    assert not (tmp_path / "cut" / "DONE").exists()
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "seco')  # torn by the kill
    evaluate.run(config, tmp_path / "cut")
    np.testing.assert_array_equal(_predictions(tmp_path / "whole")["scores"], _predictions(tmp_path / "cut")["scores"])
    assert _log(tmp_path / "whole") == _log(tmp_path / "cut")


def test_sigterm_in_mid_epoch_saves_and_resumes(store, tmp_path, monkeypatch):
    config = _config(store, log_every=2)
    evaluate.run(config, tmp_path / "whole")
    advance, calls = evaluate._mean_loss, []

    def signal_once(pending, step):
        calls.append(step)
        if step == STEPS + 2:
            signal.raise_signal(signal.SIGTERM)
        return advance(pending, step)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "_mean_loss", signal_once)
        with pytest.raises(SystemExit) as stopped:
            evaluate.run(config, tmp_path / "cut")
    assert stopped.value.code == 143
    assert calls[-1] == STEPS + 2
    evaluate.run(config, tmp_path / "cut")
    np.testing.assert_array_equal(_predictions(tmp_path / "whole")["scores"], _predictions(tmp_path / "cut")["scores"])
    assert _log(tmp_path / "whole") == _log(tmp_path / "cut")


def test_a_finished_run_is_shown_not_repeated(store, finished, monkeypatch, capsys):
    config = _config(store, labels="joint", protocol="paper", save_crops=True)
    monkeypatch.setattr(evaluate, "_set_up", None)
    evaluate.run(config, finished)
    printed = capsys.readouterr().out
    assert "done already" in printed
    assert "macro average" in printed
    config.seed = 1
    with pytest.raises(UserError, match=r"config.seed was 0 and is 1"):
        evaluate.run(config, finished)


def test_the_table_fits_100_columns(finished):
    console = Console(width=100, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    evaluation_report.show(finished, console)
    table = [line for line in console.export_text().splitlines() if str(finished) not in line]
    assert max(map(len, table)) <= 100
    text = "\n".join(table)
    for part in (
        "macro average",
        "3 of 3 labels",
        "pooled",
        "1 of 1 labels",
        "8 test synthetic records",
        "undefined classes counted 0.5",
    ):
        assert part in text


@pytest.mark.parametrize("unit", ["record", "patient"])
def test_the_unit_of_the_bootstrap(store, tmp_path, unit):
    evaluate.run(_config(store, epochs=1, **{"interval.unit": unit, "interval.kind": "basic"}), tmp_path)
    predictions, auroc = _predictions(tmp_path), _results(tmp_path)["tasks"]["synthetic"]["auroc"]
    groups = np.arange(8) // 2 if unit == "patient" else None
    expected = bootstrap.intervals(
        predictions["targets"], predictions["scores"], replicates=50, kind="basic", groups=groups
    )
    assert [auroc["low"], auroc["high"]] == pytest.approx([expected.macro_low, expected.macro_high])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "nowhere"}, "nowhere: no card.json"),
        ({"protocol": "papr"}, "config.protocol is 'papr'; expected one of fixed, paper"),
        ({"epochs": 0}, "config.epochs is 0; expected 1 or more"),
        ({"learning_rate": 0.0}, "config.learning_rate is 0.0; expected a positive number"),
        ({"weight_decay": -1.0}, "config.weight_decay is -1.0; expected 0 or more"),
        ({"interval.unit": "ward"}, "config.interval.unit is 'ward'; expected one of record, patient"),
        ({"interval.replicates": 1}, "config.interval.replicates is 1; expected 2 or more"),
        ({"interval.level": 95.0}, "config.interval.level is 95.0; expected a coverage"),
        ({"data.labels": "nosuch"}, "no label set 'nosuch'; expected --config.data.labels=NAME, one of labels, joint"),
        ({"data.labels": None}, "no label set 'all'"),
        ({"data.store": "nowhere"}, "nowhere: not a store"),
        ({"batch_size": 1000}, "batch_size=1000; expected 1 to 64"),
        ({"mode": "scratch", "weights": "some"}, "config.weights is 'some' in mode scratch; expected none"),
    ],
)
def test_bad_config(store, tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        evaluate.run(_config(store, **changes), tmp_path)
    assert not (tmp_path / "results.json").exists()


def test_training_that_diverges_is_an_error(store, tmp_path):
    with pytest.raises(UserError, match=r"after step \d+ no output for the validation fold is finite"):
        evaluate.run(_config(store, labels="joint", mode="finetune", epochs=9, learning_rate=1e30), tmp_path)


@pytest.mark.parametrize("model", models.names())
def test_every_argument_of_a_model_is_a_config_field(model):
    fields = get_config(f"model={model}").model_arguments
    assert set(fields) == set(models.create(model).arguments)
    # ml_collections has no flag for a field of this type.
    assert not [name for name in fields if fields.get_type(name) is type(None)]


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("model=ecg_cp", r"model 'ecg_cp' is unknown \(did you mean 'ecg_cpc'\?\)"),
        ("task=ptbxl_al", "did you mean 'ptbxl_all'"),
        ("mode=frosen", "mode 'frosen' is unknown; expected one of finetune, finetune_attention, frozen, linear"),
        ("modell=s4", "'modell=s4' is unknown; expected model=,task=,mode="),
        ("s4", "'s4' is unknown"),
    ],
)
def test_bad_choice(choice, message):
    with pytest.raises(UserError, match=message):
        get_config(choice)


def test_the_command_says_a_bad_choice_in_one_line(tmp_path):
    command = ["-m", "ecgjax.main", "--config=configs/evaluate.py:task=ptbxl", f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "task 'ptbxl' is unknown" in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_task_without_embedded_data_says_how_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"task ptbxl_all needs a store; expected --config.data.store=STORE"):
        evaluate.run(get_config("model=tiny,task=ptbxl_form"), tmp_path)


def test_the_only_label_set_needs_no_name(store, tmp_path):
    with pytest.raises(UserError, match=r"no label set is named; expected --config.data.labels=NAME, one of labels"):
        labelled.load(RUNS["folder"], 2.5, str(store))


def test_a_row_of_a_head_run_needs_its_classes(store, tmp_path):
    config = _config(store)
    config.task = "ptbxl_form"
    with pytest.raises(
        UserError, match=r"task ptbxl_form: none of the 3 classes .* belongs to it; expected classes like"
    ):
        evaluate.run(config, tmp_path)


def test_rows_of_a_head_run_are_reported_together(store, tmp_path, capsys):
    config = _config(store, epochs=1)
    config.task = "ptbxl_rhythm"  # SR and AFIB are rhythms of PTB-XL, OFFSET is taken for a diagnosis
    evaluate.run(config, tmp_path)
    found = _results(tmp_path)
    assert found["run"] == "ptbxl_all"
    assert {name: list(task["auroc"]["labels"]) for name, task in found["tasks"].items()} == {
        "ptbxl_rhythm": ["SR", "AFIB"],
        "ptbxl_all": ["SR", "AFIB", "OFFSET"],
        "ptbxl_diag": ["OFFSET"],
    }
    assert found["tasks"]["ptbxl_rhythm"]["row"] == "PTB-XL (Rhythm)"
    assert "other tasks on the same predictions: AUROC" in capsys.readouterr().out


def test_a_damaged_shard_is_named(store, tmp_path):
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    shard = copy / "signals-00000.npy"
    content = bytearray(shard.read_bytes())
    content[5000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"signals-00000.npy: damaged"):
        evaluate.run(_config(copy), tmp_path / "run")


@pytest.fixture
def clear_test_fold(store, monkeypatch):
    """Opens the store with no positives of some classes in the test fold."""

    def clear(columns):
        opened = ecgjax.open_store(store)
        opened.targets("labels")[opened.rows("test")[:, None], columns] = 0
        monkeypatch.setattr(labelled, "open_store", lambda path: opened)

    return clear


def test_a_fold_without_positives_is_refused_and_named(clear_test_fold):
    clear_test_fold([0, 1, 2])
    message = r"label set 'labels': test \(fold 9\) has no classification target with a positive and a negative record"
    with pytest.raises(UserError, match=message):
        labelled.load(RUNS["folder"], 2.5, "there", "labels")


def test_a_class_without_positives_is_named_and_left_undefined(clear_test_fold, store, tmp_path, caplog, capsys):
    clear_test_fold([1])
    evaluate.run(_config(store, epochs=1), tmp_path)
    assert (
        "test (fold 9) has 1 of 3 classification targets without a positive and a negative record: AFIB" in caplog.text
    )
    auroc = _results(tmp_path)["tasks"]["synthetic"]["auroc"]
    assert auroc["labels"]["AFIB"] == {"value": None, "low": None, "high": None, "known": 8, "positives": 0}
    assert auroc["defined"] == 2
    assert auroc["value"] == pytest.approx((auroc["labels"]["SR"]["value"] + auroc["labels"]["OFFSET"]["value"]) / 2)
    printed = capsys.readouterr().out
    assert "2 of 3 labels" in printed
    assert "not defined" in printed


def test_records_shorter_than_the_window_are_refused_by_name_of_the_split(store):
    with pytest.raises(UserError, match=r"no record of at least 7 s for train"):
        labelled.load(RUNS["folder"], 7.0, str(store), "labels")
    with pytest.raises(UserError, match=r"no record of at least 10 s"):  # the benchmark's own minimum
        labelled.load(RUNS["georgia"], 2.5, str(store), "labels")
