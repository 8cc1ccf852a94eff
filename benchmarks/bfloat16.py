"""What computing in bfloat16 costs in accuracy, per model: features against float32, on the golden weights and inputs.

    python -m benchmarks.bfloat16 [--models=merl_vit,...] [--output=FILE]

Weights are those of the golden data (deterministic, not trained); parameters and statistics stay float32 in both.
S4 and ECG-CPC have no such switch: their kernels are complex and stay in float32, as in the benchmark.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.timing import save
from tests.models.golden import load, relative

MODELS = (
    *("s4", "ecg_cpc", "ecg_founder", "merl_resnet", "ecgfm_ked"),
    *("merl_vit", "ecg_jepa", "st_mem", "hubert_ecg", "ecg_fm"),
)


def measure(model: str) -> dict[str, float]:
    """Relative L2 distance of bfloat16 from float32 features, and the cosine of the pooled ones."""
    features = {}
    for dtype in ("float32", "bfloat16"):
        case = load(model, dtype=dtype)
        out, _ = jax.jit(case.encoder.apply)(case.variables, jnp.asarray(case.x))
        features[dtype] = [np.asarray(out.pooled, np.float64), np.asarray(out.sequence, np.float64)]
    (pooled, sequence), (pooled_16, sequence_16) = features["float32"], features["bfloat16"]
    cosine = (pooled * pooled_16).sum() / (np.linalg.norm(pooled) * np.linalg.norm(pooled_16))
    return {
        "pooled": relative(pooled_16, pooled),
        "sequence": relative(sequence_16, sequence),
        "1 - cosine": float(1 - cosine),
    }


def main() -> None:
    """Prints a row per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--output", type=Path, help="JSON")
    options = parser.parse_args()
    results = {}
    print(f"{'model':14s}{'pooled':>12s}{'sequence':>12s}{'1 - cosine':>12s}")
    for model in options.models.split(","):
        results[model] = measure(model)
        print(f"{model:14s}" + "".join(f"{value:12.1e}" for value in results[model].values()), flush=True)
    save(options.output, "bfloat16", {"models": results})


if __name__ == "__main__":
    main()
