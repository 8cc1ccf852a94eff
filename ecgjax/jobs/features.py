"""Job "features": features of a file of signals; see configs/features.py."""

import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict
from numpy.typing import NDArray

from ecgjax.atomic import replacing
from ecgjax.data import leads, resampling
from ecgjax.errors import UserError
from ecgjax.models.model import Model, load_model


def run(config: ConfigDict, workdir: Path | None) -> None:
    """Reads config.input, writes config.output; needs no work directory.

    Raises:
        UserError: a file, its arrays, the leads, the weights or a config field cannot be used.
    """
    for name in ("input", "output"):
        if not config[name]:
            raise UserError(f"config.{name} is empty; expected a .npz file: --config.{name}=FILE.npz")
    if config.batch_size < 1:
        raise UserError(f"config.batch_size is {config.batch_size}; expected 1 or more")
    source, target = Path(config.input), Path(config.output)
    if not target.absolute().parent.is_dir():
        raise UserError(f"config.output: {target.parent}: no such folder; expected one that exists")
    signals, rate, lead_names = read_signals(source)
    model = load_model(config.model, config.weights, config.seed)
    if not config.weights:
        print(f"{config.model}: config.weights names none, random initialisation (seed {config.seed})", file=sys.stderr)
    signals = _canonical(signals, lead_names, model, source)
    sequence, pooled = compute(model, signals, rate, config.batch_size)
    with replacing(target) as temporary, open(temporary, "wb") as file:
        np.savez(file, sequence=sequence, pooled=pooled)
    print(f"{target}: sequence {sequence.shape}, pooled {pooled.shape}")


def read_signals(path: Path) -> tuple[NDArray[np.float32], float, list[str]]:
    """Signals (batch, samples, leads) in mV, sampling rate in Hz and lead names of an .npz file.

    Raises:
        UserError: not such a file, or arrays missing or malformed; `lead_names` may be left out for twelve leads.
    """
    expected = "expected an .npz file with signals (batch, samples, leads), sampling_rate, optionally lead_names"
    if not path.is_file():
        raise UserError(f"{path}: no such file; {expected}")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise UserError(f"{path}: not readable ({error}); {expected}") from error
    except Exception as error:  # zipfile and zlib raise their own kinds for damaged files
        raise UserError(f"{path}: damaged ({error}); {expected}") from error
    for name in ("signals", "sampling_rate"):
        if name not in arrays:
            raise UserError(f"{path}: has no {name!r} (it has {', '.join(arrays) or 'nothing'}); {expected}")
    signals, rate = arrays["signals"], arrays["sampling_rate"]
    if signals.ndim != 3 or 0 in signals.shape or signals.dtype.kind not in "fiu":
        raise UserError(f"{path}: signals is {signals.dtype} {signals.shape}; expected numbers (batch, samples, leads)")
    if rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < float(rate.item()) < np.inf:
        raise UserError(f"{path}: sampling_rate is {rate.tolist()!r}; expected one positive number in Hz")
    if np.isinf(signals).any():
        record = int(np.argwhere(np.isinf(signals))[0, 0])
        raise UserError(f"{path}: signals of record {record} hold an infinite value; expected mV, NaN where missing")
    names = [str(name) for name in np.atleast_1d(arrays.get("lead_names", np.array(leads.CANONICAL)))]
    if len(names) != signals.shape[2]:
        given = f"{len(names)} lead_names" if "lead_names" in arrays else "no lead_names"
        raise UserError(f"{path}: {given} for {signals.shape[2]} leads; expected one name for each")
    return signals.astype(np.float32), float(rate.item()), names


def compute(
    model: Model, signals: NDArray[np.float32], rate: float, batch_size: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sequence and pooled features of signals (batch, samples, 12) at any rate, in batches of one compiled shape."""
    to_model_rate = jax.jit(partial(resampling.resample, rate_in=rate, rate_out=model.spec.sampling_rate))
    size = min(batch_size, len(signals))
    parts: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    for first in range(0, len(signals), size):
        batch = signals[first : first + size]
        padded = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.float32)])
        features = model.features(to_model_rate(padded))
        parts.append((np.asarray(features.sequence)[: len(batch)], np.asarray(features.pooled)[: len(batch)]))
    sequence, pooled = zip(*parts, strict=True)
    return np.concatenate(sequence), np.concatenate(pooled)


def _canonical(signals: NDArray[np.float32], names: list[str], model: Model, source: Path) -> NDArray[np.float32]:
    batch, samples, _ = signals.shape
    # Leads are taken, derived and ordered sample by sample, so the records can stand one after another.
    flat, derived, missing = leads.to_canonical(signals.reshape(batch * samples, -1), names, source=str(source))
    spec = model.spec
    absent = [lead for lead in missing if lead in spec.leads]
    if absent:
        raise UserError(f"{source}: no lead {', '.join(absent)}; model {spec.name} needs {', '.join(spec.leads)}")
    if derived:
        print(f"{source}: leads {', '.join(derived)} are derived from the limb leads given", file=sys.stderr)
    return np.asarray(flat, np.float32).reshape(batch, samples, len(leads.CANONICAL))
