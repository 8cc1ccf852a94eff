"""Named switches: presets, overrides, refusals, and names of cells that do not change."""

import numpy as np
import pytest

from configs.evaluate import get_config
from ecgjax import switches, tasks
from ecgjax.data.batches import training_iterator
from ecgjax.data.store import open_store
from ecgjax.errors import UserError
from ecgjax.jobs import evaluate_outcome as outcome
from ecgjax.jobs import evaluate_setting
from ecgjax.jobs.evaluate_setting import Parts, cutter_of, load, set_up
from ecgjax.sweep import plan
from ecgjax.sweep.axes import axis, fixed, product
from ecgjax.training.run_directory import RunDirectory
from tests.jobs.conftest import store, tiny
from tests.jobs.evaluate_run import make_config
from tests.sweep import stub

__all__ = ["store", "tiny"]


def test_a_protocol_sets_all_and_a_switch_overrides_one():
    config = get_config()
    assert switches.of(config) == switches.PRESETS["fixed"]
    config.protocol = "paper"
    config.switches.missing_samples = "zero"
    found = switches.of(config)
    assert found == switches.PRESETS["paper"]._replace(missing_samples="zero")
    assert switches.name_of(config) == "paper, missing_samples=zero"
    config.switches.missing_samples = "spread"
    assert switches.name_of(config) == "paper"
    for preset in switches.PRESETS.values():
        assert all(preset._asdict()[name] in choices for name, choices in switches.CHOICES.items())


@pytest.mark.parametrize(
    ("protocol", "own", "message"),
    [
        ("papers", {}, "config.protocol is 'papers'; expected one of fixed, paper"),
        ("fixed", {"undefined_classes": "0.5"}, "config.switches.undefined_classes is '0.5'; expected skip or half"),
        ("fixed", {"crops": "x"}, "config.switches.crops: no such switch"),
    ],
)
def test_what_cannot_be_is_refused(protocol, own, message):
    with pytest.raises(UserError, match=message):
        switches.resolve(protocol, own)


def test_names_of_cells_without_switches_are_those_before_there_were_any(store):
    axes = product(fixed(stub.CPC), axis("mode", ["linear"]), axis("protocol", ["fixed", "paper"]))
    cells = plan.make(stub.config(store, axes)).cells
    assert not any("switches" in key for cell in cells for key in cell.identity["config"])
    same = product(axes, fixed({"switches.undefined_classes": None}))
    assert [cell.name for cell in plan.make(stub.config(store, same)).cells] == [cell.name for cell in cells]


def test_only_what_differs_makes_another_cell(store):
    base = product(fixed(stub.CPC), fixed({"mode": "linear"}))
    choices = axis("switches.undefined_classes", [None, "skip", "half"])
    cells = plan.make(stub.config(store, product(base, choices))).cells
    assert len(cells) == 2  # "skip" is what "fixed" says
    assert cells[0].group == cells[1].group  # they see the same batches
    for switch, choice in (("last_crop_start", "never"), ("missing_samples", "spread")):
        (other,) = plan.make(stub.config(store, product(base, fixed({f"switches.{switch}": choice})))).cells
        assert other.group != cells[0].group


def _subject(store, tmp_path, **changes):
    config = make_config(store, **changes)
    return load(config, RunDirectory(tmp_path), *tasks.get(config.task), Parts())


@pytest.mark.parametrize("choice", ["zero", "spread"])
def test_missing_samples(store, tiny, tmp_path, choice):
    subject = _subject(store, tmp_path, **{"switches.missing_samples": choice})
    assert cutter_of(subject).protocol == {"zero": "default", "spread": "paper"}[choice]


@pytest.mark.parametrize("choice", ["drawn", "never"])
def test_last_crop_start(store, tiny, choice):
    """Of records one sample longer than the window, the second window is drawn or never is."""
    opened = open_store(store)
    iterator, _ = training_iterator(
        opened, np.arange(64), seconds=5.99, batch_size=16, seed=0, epochs=2, last_start=choice == "drawn"
    )
    starts = np.concatenate([np.asarray(item["start"]) for item in iterator])
    assert set(starts.tolist()) == ({0, 1} if choice == "drawn" else {0})


def test_undefined_classes_and_composite(store, tiny, tmp_path):
    """Of the validation fold one class is undefined; the score is the definition's."""
    rng = np.random.default_rng(0)
    records = rng.random((8, 4)).astype(np.float32)
    scores = outcome.Scores(records, {"crop_record": np.arange(8)}, 0)
    found = {}
    for name, choice in (("undefined_classes", "skip"), ("undefined_classes", "half"), ("composite", "mean")):
        subject = _subject(store, tmp_path, labels="joint", **{f"switches.{name}": choice})
        found[choice] = outcome.validate(subject, scores, 1)
    skip, half, mean = found["skip"], found["half"], found["mean"]
    assert half["validation/macro_auroc"] == pytest.approx((2 * skip["validation/macro_auroc"] + 0.5) / 3)
    assert mean["validation/mean_of_mae"] == pytest.approx(mean["validation/mae"])  # there is one target
    assert mean["validation/score"] == pytest.approx(skip["validation/score"])


@pytest.mark.parametrize("choice", ["intended", "published"])
def test_rate_groups(store, tiny, tmp_path, monkeypatch, choice):
    def build(*_, paper_groups, **__):
        raise RuntimeError(paper_groups)

    monkeypatch.setattr(evaluate_setting.supervised, "build", build)
    config = make_config(store, mode="finetune", **{"switches.rate_groups": choice})
    with pytest.raises(RuntimeError) as found:
        set_up(config, RunDirectory.open(tmp_path, config), *tasks.get(config.task))
    assert found.value.args == (choice == "published",)
