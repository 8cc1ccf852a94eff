"""Training in job "evaluate": what is differentiated, rates, kills and resumes."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecgjax.data.cutter import Cutter
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate
from ecgjax.models.model import load_model
from ecgjax.training import optimiser, supervised
from ecgjax.training.checkpoints import Checkpoints
from tests.jobs.evaluate_run import STEPS, make_config, read_log, read_predictions
from tests.jobs.test_pretrain import file_size_limit

pytestmark = pytest.mark.usefixtures("tiny")


def make_program(model, mode):
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


def make_batch():
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
    cutter, item, targets = make_batch()
    program = make_program(model, mode)
    before = jax.tree.map(np.array, (program.frozen, program.state.params))
    state, loss = program.step(program.state, program.frozen, cutter, item, targets)
    assert np.isfinite(loss)
    assert set(state.params) == {"head"}
    assert [row.group for row in program.groups] == ["head"]
    jax.tree.map(np.testing.assert_array_equal, before[0], program.frozen)
    name = "kernel" if mode == "linear" else "output"
    assert (before[1]["head"][name] != state.params["head"][name]).any()
    tuned = make_program(model, "finetune")
    with pytest.raises(AssertionError, match="the encoder is differentiated"):  # the trap does close
        tuned.step(tuned.state, tuned.frozen, cutter, item, targets)


def test_a_frozen_step_costs_a_forward_pass():
    cutter, item, targets = make_batch()
    model = load_model("tiny", width=64)
    flops = {}
    for mode in ("linear", "finetune"):
        program = make_program(model, mode)
        arguments = program.state, program.frozen, cutter, item
        for name, function, more in (("step", program.step, (targets,)), ("predict", program.predict, ())):
            flops[mode, name] = function.lower(*arguments, *more).compile().cost_analysis()["flops"]
    assert flops["linear", "step"] < 1.05 * flops["linear", "predict"]
    assert flops["finetune", "step"] > 2 * flops["finetune", "predict"]


def test_finetuning_moves_all_groups_at_their_rates_and_updates_running_statistics():
    cutter, item, targets = make_batch()
    program = make_program(load_model("tiny"), "finetune")
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
    config = make_config(store, mode="finetune", epochs=3, log_every=3)
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
    whole, cut = (read_predictions(tmp_path / name)["scores"] for name in ("whole", "cut"))
    np.testing.assert_array_equal(whole, cut)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "cut")


def test_sigterm_in_mid_epoch_saves_and_resumes(store, tmp_path, monkeypatch):
    config = make_config(store, log_every=2)
    evaluate.run(config, tmp_path / "whole")
    advance, calls = evaluate.mean_loss, []

    def signal_once(pending, step):
        calls.append(step)
        if step == STEPS + 2:
            signal.raise_signal(signal.SIGTERM)
        return advance(pending, step)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "mean_loss", signal_once)
        with pytest.raises(SystemExit) as stopped:
            evaluate.run(config, tmp_path / "cut")
    assert stopped.value.code == 143
    assert calls[-1] == STEPS + 2
    evaluate.run(config, tmp_path / "cut")
    whole, cut = (read_predictions(tmp_path / name)["scores"] for name in ("whole", "cut"))
    np.testing.assert_array_equal(whole, cut)
    assert read_log(tmp_path / "whole") == read_log(tmp_path / "cut")


def test_a_full_disk_is_one_line_and_the_run_continues_later(store, tmp_path):
    config, whole = make_config(store, mode="finetune", epochs=1), tmp_path / "whole"
    evaluate.run(config, whole)
    # The largest file that fits no more: a part of a checkpoint, and a figure after everything else.
    for name, culprit in (("weights/weights.safetensors", "checkpoints"), ("figures/auroc.png", "figures")):
        full = tmp_path / culprit
        with (
            file_size_limit((whole / name).stat().st_size - 1),
            pytest.raises(UserError, match="no space left") as error,
        ):
            evaluate.run(config, full)
        assert str(error.value).startswith(str(full / culprit))
        assert "\n" not in str(error.value)
        assert not list(full.rglob("*tmp*"))
        assert not (full / "DONE").exists()
        evaluate.run(config, full)
        np.testing.assert_array_equal(read_predictions(full)["scores"], read_predictions(whole)["scores"])


def test_training_that_diverges_is_an_error(store, tmp_path):
    with pytest.raises(UserError, match=r"after step \d+ no output for the validation fold is finite"):
        evaluate.run(make_config(store, labels="joint", mode="finetune", epochs=9, learning_rate=1e30), tmp_path)
