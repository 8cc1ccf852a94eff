"""Converting a large checkpoint: seconds and peak memory as multiples of the file's size.

    python benchmarks/conversion.py [--width=2048 --layers=9]

Writes a torch file of an ECG-CPC of that size (by default 88 M parameters, 0.36 GB, with the shortest S4 kernels that
its window allows) and converts it in a fresh process, the self-check with its compilation and activations included.
Memory is the process's greatest resident size, memory-mapped pages of files included. For the ratio, what a conversion
of the same model at width 8 takes is subtracted: imports and compilation, which do not depend on the file.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np


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


def convert(source: Path, out: Path) -> dict[str, float]:
    """Seconds and peak resident bytes of one conversion in this process."""
    from convert_weights import conversion

    start = time.perf_counter()
    conversion.convert("ecg_cpc", source, out)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": time.perf_counter() - start, "peak": peak}


def in_fresh_process(function: str, *arguments: object) -> Any:
    # A child's peak counts from its parent's size when it was started: this process therefore does no work itself.
    command = [sys.executable, __file__, f"--call={function}", *map(str, arguments)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=9)
    parser.add_argument("--call", choices=["write", "convert"], help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.call == "write":
        path, width, layers = flags.arguments
        print(json.dumps(write(Path(path), int(width), int(layers))))
        return
    if flags.call == "convert":
        print(json.dumps(convert(*map(Path, flags.arguments))))
        return
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.ckpt", Path(folder) / "large.ckpt"
        in_fresh_process("write", small, 8, flags.layers)
        parameters = in_fresh_process("write", large, flags.width, flags.layers)
        base = in_fresh_process("convert", small, Path(folder) / "small")
        found = in_fresh_process("convert", large, Path(folder) / "large")
        size = large.stat().st_size
    print(f"file         {size / 1e6:8.0f} MB, {parameters / 1e6:.1f} M parameters")
    print(f"seconds      {found['seconds']:8.1f}   (smallest model: {base['seconds']:.1f})")
    print(f"peak memory  {found['peak'] / 1e6:8.0f} MB (smallest model: {base['peak'] / 1e6:.0f} MB)")
    print(f"peak above the smallest model / file size: {(found['peak'] - base['peak']) / size:.2f}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
