"""Files of the released layouts at full size, from the torch file to weights and back to the authors' names."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from convert_weights import conversion, self_check
from ecgjax.models import weights as weights_io
from tests.conftest import load_golden
from tests.convert_weights.torch_writer import Object, write_zip

Tensors = OrderedDict[str, np.ndarray]


def tensors_of(case: str) -> Tensors:
    """The names and shapes of a golden manifest; each tensor counts up from its own number."""
    entries = [entry for entry in load_golden(case)[0]["tensors"] if not entry["name"].startswith("head.")]
    out = OrderedDict()
    for number, entry in enumerate(entries):
        size = int(np.prod(entry["shape"], dtype=np.int64))
        values = np.zeros(size, "int64") if entry["dtype"] == "int64" else np.arange(size, dtype=np.float32) * 1e-6
        out[entry["name"]] = (values + values.dtype.type(number)).reshape(entry["shape"])
    return out


def beside(state: Tensors, **extra: tuple[int, ...]) -> Tensors:
    """The state with further tensors that a converter has to leave alone."""
    return OrderedDict({**state, **{name: np.ones(shape, np.float32) for name, shape in extra.items()}})


def founder(state: Tensors) -> dict[str, Any]:
    dense = beside(state, **{"dense.weight": (150, 1024), "dense.bias": (150,)})
    return {"state_dict": dense, "optimizer": {"state": {}, "param_groups": []}, "epoch": 12}


def merl(state: Tensors) -> Tensors:
    return beside(state, **{"linear.weight": (10, 512), "linear.bias": (10,)})


def ked(state: Tensors) -> dict[str, Any]:
    aliases = load_golden("ecgfm_ked")[0]["aliases"]
    full = OrderedDict({**state, **{alias: state[name] for alias, name in aliases.items()}})
    other = OrderedDict({"queries": np.ones((20, 768), np.float32)})
    return {"model": other, "ecg_model": full, "text_encoder": other, "config": {"lr": 1e-4}, "epoch": 3}


def jepa(state: Tensors) -> dict[str, Any]:
    return {"encoder": state, "epoch": 100}


def st_mem(state: Tensors) -> dict[str, Any]:
    named = OrderedDict({f"encoder.{name.removeprefix('encoder.')}": value for name, value in state.items()})
    twice = {
        name.removeprefix("encoder."): value for name, value in named.items() if name.startswith("encoder.to_patch")
    }
    decoder = {"mask_embedding": (1, 1, 256), "decoder_norm.weight": (256,), "decoder_head.weight": (75, 256)}
    return {"model": beside(OrderedDict({**named, **twice}), **decoder), "epoch": 1, "optimizer": {}}


def fairseq(state: Tensors) -> dict[str, Any]:
    old = {"original0": "weight_g", "original1": "weight_v"}  # how weight norm was spelt before torch 2
    spelt = OrderedDict()
    for name, value in state.items():
        head, _, tail = name.partition("parametrizations.weight.")
        spelt[head + old[tail] if tail else name] = value
    model = beside(spelt, **{"quantizer.vars": (1, 640, 128), "project_q.weight": (256, 256), "mask_emb": (768,)})
    cfg = Object("argparse", "Namespace", {"arch": "wav2vec2_cmsc"})
    return {"args": None, "cfg": {"model": cfg}, "model": model, "extra_state": {"meters": Object("fairseq", "Meter")}}


def hubert(state: Tensors) -> Tensors:
    return beside(state, **{"final_proj.0.weight": (256, 768), "label_embedding.0.weight": (500, 256)})


FILES = {
    "ecg_founder": ("12_lead_ECGFounder.pth", founder),
    "merl_resnet": ("res18_best_encoder.pth", merl),
    "merl_vit": ("vit_tiny_best_encoder.pth", OrderedDict),
    "ecgfm_ked": ("best_valid_all_increase_with_augment_epoch_3.pt", ked),
    "ecg_jepa": ("multiblock_epoch100.pth", jepa),
    "st_mem": ("st_mem_vit_base_full.pth", st_mem),
    "hubert_ecg": ("hubert_ecg_base.safetensors", hubert),
    "ecg_fm": ("mimic_iv_ecg_physionet_pretrained.pt", fairseq),
}

# Held by the file, run by nothing: not converted, or written back as they are initialised.
UNUSED = {"": ("mask_emb", "masked_spec_embed", "num_batches_tracked"), "ecg_founder": ("first_bn.", ".bn", "dense.")}


@pytest.mark.parametrize("model", FILES)
def test_released_file_converts_and_comes_back(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The forward pass of the self-check is tested with the command; here it would only cost minutes.
    monkeypatch.setattr(self_check, "compute", lambda model: {})
    file, wrap = FILES[model]
    state = tensors_of(model)
    if file.endswith(".safetensors"):
        save_file(dict(wrap(state)), tmp_path / file)
    else:
        write_zip(tmp_path / file, wrap(state))
    card = conversion.convert(model, tmp_path / file, tmp_path / "weights")
    assert card["source"]["file"] == file
    assert card["parameters"] == weights_io.load_card(tmp_path / "weights")["parameters"]
    (tmp_path / file).unlink()

    conversion.export(model, tmp_path / "weights", tmp_path / "back.safetensors")
    back = load_file(tmp_path / "back.safetensors")
    unused = UNUSED[""] + UNUSED.get(model, ())
    names = [name for name in state if not any(part in name for part in unused)]
    assert len(names) > 50
    for name in names:
        bare = name if name in back else name.removeprefix("encoder.")
        np.testing.assert_array_equal(back[bare], state[name], err_msg=name)
    for left in tmp_path.rglob("*.safetensors"):
        left.unlink()
