"""Converting a large checkpoint: seconds and peak memory as multiples of the file's size.

    python -m benchmarks.conversion [--width=2048 --layers=9]
    python -m benchmarks.conversion --model=ecg_fm --file=mimic_iv_ecg_physionet_pretrained.pt

Converts a file in a fresh process, the self-check with its compilation and activations included: the one that is named,
or a torch file of an ECG-CPC of that size (by default 88 M parameters, 0.36 GB, with the shortest S4 kernels that its
window allows). Memory is the process's greatest resident size, memory-mapped pages of files included; for the ratio,
what the imports alone take is subtracted. Medians over a few processes.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.timing import asked, save, spread


def write(path: Path, width: int, layers: int) -> int:
    """Writes the checkpoint and returns its number of parameters."""
    from flax.traverse_util import flatten_dict, unflatten_dict

    from convert_weights import mapping, names
    from ecgjax.models import registry
    from tests.convert_weights.torch_writer import write_zip

    encoder = registry.create("ecg_cpc", width=width, layers=layers, l_max=300)
    rng = np.random.default_rng(0)
    flat = {
        path: (0.02 * np.abs(rng.standard_normal(value.shape, np.float32)))
        for path, value in flatten_dict(encoder.shapes(), sep="/").items()
    }
    tensors = mapping.to_torch(names.get("ecg_cpc"), encoder, unflatten_dict(flat, sep="/"))
    write_zip(path, {"state_dict": OrderedDict(tensors)})
    return sum(value.size for key, value in flat.items() if key.startswith("params/"))


def convert(model: str, source: Path, out: Path) -> dict[str, float]:
    """Seconds and peak resident bytes of one conversion in this process, and of its imports."""
    start, used = time.perf_counter(), time.process_time()
    import jax

    from convert_weights import conversion

    jax.devices()
    imports = peak()
    conversion.convert(model, source, out)
    wall, cpu = time.perf_counter() - start, time.process_time() - used
    return {"wall": wall, "cpu": cpu, "imports": imports, "peak": peak()}


def peak() -> int:
    """Greatest resident bytes of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def in_fresh_process(function: str, *arguments: object) -> Any:
    # A child's peak counts from its parent's size when it was started: this process therefore does no work itself.
    command = [sys.executable, "-m", "benchmarks.conversion", f"--call={function}", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, help="JSON")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--call", choices=["write", "convert"], help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("--model", default="ecg_cpc")
    parser.add_argument("--file", type=Path)
    flags = parser.parse_args()
    if flags.call == "write":
        path, width, layers = flags.arguments
        print(json.dumps(write(Path(path), int(width), int(layers))))
        return
    if flags.call == "convert":
        model, source, out = flags.arguments
        print(json.dumps(convert(model, Path(source), Path(out))))
        return
    with tempfile.TemporaryDirectory() as folder:
        source = flags.file
        if source is None:
            source = Path(folder) / "large.ckpt"
            in_fresh_process("write", source, flags.width, flags.layers)
        runs = [
            in_fresh_process("convert", flags.model, source, Path(folder) / f"out{i}") for i in range(flags.repeats)
        ]
        size = source.stat().st_size
    print(f"file         {size / 1e6:8.0f} MB")
    seconds = {clock: spread([run[clock] for run in runs])._asdict() for clock in ("wall", "cpu")}
    above = {"memory": spread([(run["peak"] - run["imports"]) / size for run in runs])._asdict()}
    peak_, imports = (statistics.median(run[key] for run in runs) for key in ("peak", "imports"))
    print(f"seconds      {seconds['wall']['median']:8.1f}, of processors {seconds['cpu']['median']:.1f}")
    print(f"peak memory  {peak_ / 1e6:8.0f} MB, of which imports {imports / 1e6:.0f} MB")
    print(f"peak above the imports / file size: {above['memory']['median']:.2f}")
    ratios = {f"conversion of a checkpoint of {size / 1e6:.0f} MB: memory above the imports / file size": above}
    found = {"options": asked(flags), "megabytes": size / 1e6, "seconds": seconds, "ratios": ratios}
    save(flags.output, "conversion", found)


if __name__ == "__main__":
    main()
