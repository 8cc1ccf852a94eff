"""The benchmarks that `python -m benchmarks` runs, and with what arguments."""

from typing import NamedTuple

from ecgjax.models import registry


class Benchmark(NamedTuple):
    """One entry of the page.

    Attributes:
        section: of the page.
        module: `python -m benchmarks.MODULE`.
        arguments: sizes that a small machine can do; all with --output.
        packages: what it needs and ecgjax does not.
    """

    section: str
    module: str
    arguments: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


MODELS, PRETRAINING, PARTS = "models", "pretraining", "parts"

SUITE: dict[str, Benchmark] = {
    **{
        f"models/{name}": Benchmark(MODELS, "models", (f"--models={name}", "--batch=4", "--one_core"))
        for name in registry.names()
    },
    "pretraining/device": Benchmark(PRETRAINING, "pretraining", ("--placement=device",)),
    "pretraining/host": Benchmark(PRETRAINING, "pretraining", ("--placement=host",)),
    "pretraining_costs": Benchmark(PRETRAINING, "pretraining_costs"),
    "long_convolution": Benchmark(PRETRAINING, "long_convolution", ("--topology=none", "--batch=4")),
    "formulations": Benchmark(PRETRAINING, "formulations", ("--topology=none", "--batch=8")),
    "cpc_loss": Benchmark(PRETRAINING, "cpc_loss", ("--tokens=300",)),
    "forward": Benchmark(PARTS, "forward"),
    "bootstrap": Benchmark(PARTS, "bootstrap"),
    "comparing": Benchmark(PARTS, "comparing"),
    "cka": Benchmark(PARTS, "cka", ("--records=2000", "--layers=4")),
    "fused_heads": Benchmark(PARTS, "fused_heads", ("--records=200", "--epochs=3", "--modes=linear")),
    "resampling": Benchmark(PARTS, "resampling", (), ("resampy",)),
    "pipeline": Benchmark(PARTS, "pipeline"),
    "crops": Benchmark(PARTS, "crops", ("--gigabytes=0.2",)),
    "preparation": Benchmark(PARTS, "preparation", ("--records=300",)),
    "conversion": Benchmark(PARTS, "conversion", ("--width=1024", "--layers=8")),
    "stratify": Benchmark(PARTS, "stratify"),
    "mimic_events": Benchmark(PARTS, "mimic_events", ("--rows=500000",)),
    "report": Benchmark(PARTS, "report", ("--models=4", "--seeds=1")),
    "sweep_overhead": Benchmark(PARTS, "sweep_overhead", ("--cells=500",)),
    "stacked": Benchmark(PARTS, "stacked"),
    "dispatch": Benchmark(PARTS, "dispatch"),
    "host_memory": Benchmark(PARTS, "host_memory", ("--models=s4,merl_resnet,merl_vit", "--rounds=2")),
    "processes": Benchmark(PARTS, "processes"),
}
