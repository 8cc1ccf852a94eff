"""What programs cost by the compiler's count, against a stored baseline: no device and no clock is needed.

    python -m benchmarks.costs [--only=NAME] [--write]

Prints every program's figures, those of baseline_costs.json and their ratio; exits with 1 where one grew by more than
5 %. `--write` stores what is found as the new baseline: on purpose, with a commit that says why.

"lowered": FLOPs before optimisation, as for a CPU and as for a TPU (the forms of some operations differ), of every
model's programs. "cpu" and "v5e:2x2": FLOPs, bytes moved and bytes of temporary memory of a few programs that are
compiled; the latter where libtpu is there (TPU_LIBRARY_PATH, or installed). Everything at a batch of 8, on one device.
Figures of other versions are another baseline: they are not compared.
"""

import argparse
import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ecgjax import atomic, models
from ecgjax.compilation import measure, programs, targets
from ecgjax.compilation.programs import Compilable, Place
from ecgjax.compilation.targets import Target
from ecgjax.errors import UserError
from ecgjax.models.long_convolution import long_convolution

FILE = Path(__file__).with_name("baseline_costs.json")
BATCH = 8
TOLERANCE = 1.05
TPU = "v5e:2x2"

Figures = dict[str, float]


def make_convolution(where: Place) -> Compilable:
    """ECG-CPC's, forward, at the size at which its forms were compared."""
    return _convolution("convolution", long_convolution, (32, 300, 512), (512, 300), where=where)


def make_convolution_gradients(where: Place) -> Compilable:
    """Forward and the gradients with respect to signal and kernel."""

    def both(u: jax.Array, k: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
        y, back = jax.vjp(long_convolution, u, k)
        return y, *back(g)

    return _convolution("convolution gradients", both, (32, 300, 512), (512, 300), (32, 300, 512), where=where)


def _convolution(name: str, function: Callable[..., Any], *shapes: tuple[int, ...], where: Place) -> Compilable:
    described = tuple(jax.ShapeDtypeStruct(shape, jnp.float32, sharding=where.whole) for shape in shapes)
    return Compilable(name, function, described, (), 0)


def _of_model(name: str, step: str) -> Callable[[Place], Compilable]:
    return lambda where: programs.of_model(name, step, BATCH, where)


LOWERED: dict[str, Callable[[Place], Compilable]] = {
    f"{name} {step}": _of_model(name, step) for name in models.names() for step in programs.STEPS
} | {
    "ecg_cpc pretraining": lambda where: programs.pretraining_step(BATCH, where),
    "bootstrap block": programs.bootstrap_block,
}
COMPILED: dict[str, dict[str, Callable[[Place], Compilable]]] = {
    "cpu": {
        "convolution gradients": make_convolution_gradients,
        "s4 finetune": _of_model("s4", "finetune"),
        "bootstrap block": programs.bootstrap_block,
    },
    TPU: {
        "convolution": make_convolution,
        "bootstrap block": programs.bootstrap_block,
        "ecg_cpc features": _of_model("ecg_cpc", "features"),
        "merl_resnet features": _of_model("merl_resnet", "features"),
        "merl_vit features": _of_model("merl_vit", "features"),
        "st_mem features": _of_model("st_mem", "features"),
        "s4 finetune": _of_model("s4", "finetune"),
    },
}
EFFORT = -1.0
"""Of the compiler for a TPU on models' programs: see configs/compile_check.py."""


def lowered(program: Compilable) -> Figures:
    """Platform -> FLOPs before optimisation."""
    with jax.default_matmul_precision("highest"):
        return {platform: measure.unoptimised_flops(program, platform) or 0.0 for platform in ("cpu", "tpu")}


def compiled(program: Compilable, target: Target) -> Figures:
    """FLOPs, bytes moved and bytes of temporary memory of the compiled program."""
    with jax.default_matmul_precision("highest"):
        effort = EFFORT if program.records else 0.0
        found = measure.compile_for(measure.lower(program), target._replace(local=False), effort=effort)
    return {key: float(getattr(found, key) or 0) for key in ("flops", "bytes", "temporaries")}


def versions() -> dict[str, str | None]:
    """Of what decides on the figures, apart from the TPU's compiler."""
    return {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")}


def compiler(target: Target) -> str:
    """The build of libtpu: decides on a TPU's figures."""
    return str(target.devices[0].client.platform_version).split()[-1]


def stored() -> dict[str, Any]:
    """The baseline."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def grown(group: str, name: str, found: Figures, baseline: dict[str, Any]) -> list[str]:
    """What is more than 5 % above the baseline, or not in it.

    Args:
        group: "lowered", "cpu" or "v5e:2x2".
        name: of the program.
        found: its figures.
        baseline: as in the file.
    """
    known = baseline[group].get(name, {})
    complaints = []
    for key, value in found.items():
        if key not in known:
            complaints.append(f"{group}: {name}: {key} is not in {FILE.name}; python -m benchmarks.costs --write")
        elif value > TOLERANCE * known[key]:
            complaints.append(f"{group}: {name}: {key} grew from {known[key]:,.0f} to {value:,.0f}")
    return complaints


def figures(only: str = "") -> dict[str, Any]:
    """Group -> program -> figures, of all programs whose names have `only` in them; and the TPU's compiler.

    Groups that cannot be had here are left out.
    """
    here = programs.place(jax.local_devices()[:1], BATCH)
    found: dict[str, Any] = {"lowered": {name: lowered(make(here)) for name, make in LOWERED.items() if only in name}}
    for group, makes in COMPILED.items():
        try:
            target = targets.open_target("local" if group == "cpu" else group)
        except UserError as error:
            print(error, file=sys.stderr)
            continue
        if target.platform == group or not target.local:
            where = programs.place(target.devices[:1], BATCH)
            found[group] = {name: compiled(make(where), target) for name, make in makes.items() if only in name}
        if not target.local:
            found["compiler"] = compiler(target)
    return found


def merged(found: dict[str, Any], baseline: dict[str, Any], whole: bool) -> dict[str, Any]:
    """The new baseline: what was not found now stays, unless it is of other versions.

    Args:
        found: of `figures`.
        baseline: the old one.
        whole: every program of the groups that are there was asked for, so others are gone.
    """
    old: dict[str, Any] = baseline if baseline["versions"] == versions() else {}
    rows = {
        group: figures if whole or isinstance(figures, str) else {**old.get(group, {}), **figures}
        for group, figures in found.items()
    }
    return {**old, "versions": versions(), "batch_size": BATCH, **rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="programs with this in their names")
    parser.add_argument("--write", action="store_true", help="store them as the baseline")
    options = parser.parse_args()
    baseline: dict[str, Any] = stored() if FILE.is_file() else {"versions": versions()}
    found = figures(options.only)
    complaints = []
    for group in ("lowered", *COMPILED):
        for name, row in found.get(group, {}).items():
            before = baseline.get(group, {}).get(name, {})
            cells = [
                f"{key} {value:,.0f} ({value / before[key]:.3f})" if before.get(key) else f"{key} {value:,.0f} (new)"
                for key, value in row.items()
            ]
            print(f"{group:9} {name:22} " + "  ".join(cells))
            complaints += grown(group, name, row, {group: {}, **baseline})
    if baseline["versions"] != versions():
        print(f"The baseline is of {baseline['versions']}, this is {versions()}: ratios say little.")
    if options.write:
        atomic.write_json(FILE, merged(found, baseline, not options.only))
        print(f"\n{FILE}")
    elif complaints:
        sys.exit("\n".join(complaints))


if __name__ == "__main__":
    main()
