"""What the compiler says of a program: arithmetic, memory traffic, memory, collectives, and a lower bound of its time.

FLOPs and bytes are XLA's estimates for one device; the body of a loop is counted once, and a custom call not at all.
For GPUs XLA reports neither, so FLOPs are those before optimisation, over the number of devices, and bytes are missing.
Memory is what the executable allocates: dependable. For TPUs too much of it is an error of the compiler; for GPUs it is
compared with the card's here.
"""

import hashlib
import re
import statistics
import time
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax

from ecgjax.compilation.programs import Compilable
from ecgjax.compilation.targets import Target

_COLLECTIVE = re.compile(r"= [^=]*? (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(?:-start)?\(")
_TOO_LARGE = re.compile(r"RESOURCE_EXHAUSTED|Ran out of memory|exceeds available", re.IGNORECASE)
_NEEDED = re.compile(r"([\d.]+[KMGT])\)? exceeds available (\S+ \([^)]*\))")
# XLA chooses the tiles of its own matrix products by timing them on the card; without one it finds none for some.
_UNTUNED: dict[str, Any] = {"xla_gpu_enable_triton_gemm": False}


class Compiled(NamedTuple):
    """What is known of a compiled program; figures are of one device.

    Attributes:
        name: "model step".
        records: in a batch over all devices; 0 where there is none.
        flops: see above; None: not reported.
        bytes: moved to and from memory; None: not reported.
        arguments: bytes.
        temporaries: bytes.
        outputs: bytes that do not reuse an argument's.
        collectives: how many of each kind.
        seconds: that lowering and compiling took.
        processor_seconds: of all threads, in that time; steadier on a machine that does other things too.
        fits: whether it fits the chip's memory.
        bound: seconds that arithmetic or traffic need at least; None: not known.
        limit: "compute" or "memory", which of them; None.
        measured: seconds of a step, where it was run; None.
        error: why there is nothing else; None.
    """

    name: str
    records: int
    flops: float | None = None
    bytes: float | None = None
    arguments: int | None = None
    temporaries: int | None = None
    outputs: int | None = None
    collectives: Mapping[str, int] = MappingProxyType({})
    seconds: float = 0.0
    processor_seconds: float = 0.0
    fits: bool = False
    bound: float | None = None
    limit: str | None = None
    measured: float | None = None
    error: str | None = None

    @property
    def memory(self) -> int | None:
        """Bytes that must be there at once."""
        if self.arguments is None or self.temporaries is None or self.outputs is None:
            return None
        return self.arguments + self.temporaries + self.outputs


class Lowered(NamedTuple):
    """A program before the compiler.

    Attributes:
        program: with arguments on the target's devices.
        stage: what JAX made of it.
        digest: of its text, without the places in source files: the same digest, the same executable.
        seconds: that lowering took.
        processor_seconds: likewise.
    """

    program: Compilable
    stage: jax.stages.Lowered
    digest: str
    seconds: float
    processor_seconds: float


def lower(program: Compilable) -> Lowered:
    """Traces a program and writes it in the compiler's language."""
    clock = _Clock()
    stage = jax.jit(program.function, donate_argnums=program.donated).lower(*program.arguments)
    seconds = clock.read()
    return Lowered(program, stage, hashlib.sha256(stage.as_text().encode()).hexdigest(), *seconds)


def compile_for(
    lowered: Lowered, target: Target, dtype: str = "float32", repeats: int = 5, effort: float = 0.0
) -> Compiled:
    """Compiles a program, and runs it where the target is this machine.

    Args:
        lowered: for the target's devices.
        target: the devices.
        dtype: of the products, for the peak: "float32" or "bfloat16".
        repeats: of a run, of which the median is kept.
        effort: of the compiler for a TPU, from -1 to 1; 0 is its own. Below about -0.5 it does not search for the best
            layout of loops and does not place arrays in on-chip memory: FLOPs are the same and a transformer compiles
            ten times faster, but what would stay on the chip counts as memory.
    """
    program, clock = lowered.program, _Clock(lowered)
    try:
        executable = lowered.stage.compile(_options(target, effort))
    except jax.errors.JaxRuntimeError as error:
        seconds, processor = clock.read()
        found = Compiled(program.name, program.records, seconds=seconds, processor_seconds=processor)
        return found._replace(error=_reason(" ".join(str(error).split())))
    seconds, processor = clock.read()
    costs, memory = executable.cost_analysis(), executable.memory_analysis()
    assert memory is not None  # every backend states it
    devices = len({device for leaf in jax.tree.leaves(program.arguments) for device in leaf.sharding.device_set})
    flops, moved = _figure(costs, "flops"), _figure(costs, "bytes accessed")
    if flops is None:
        anywhere = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), program.arguments)
        before = unoptimised_flops(program._replace(arguments=anywhere), target.platform)
        flops = before and before / devices
    outputs = memory.output_size_in_bytes - memory.alias_size_in_bytes
    found = Compiled(
        program.name,
        program.records,
        flops,
        moved,
        memory.argument_size_in_bytes,
        memory.temp_size_in_bytes,
        outputs,
        dict(sorted(Counter(_COLLECTIVE.findall(executable.as_text() or "")).items())),
        seconds,
        processor,
    )
    bounds = {}
    if flops:
        bounds["compute"] = flops / (target.chip.bfloat16 if dtype == "bfloat16" else target.chip.float32)
    if moved:
        bounds["memory"] = moved / target.chip.bandwidth
    limit = max(bounds, key=lambda name: bounds[name]) if bounds else None
    needed = found.memory
    return found._replace(
        fits=needed is not None and (not target.chip.memory or needed <= target.chip.memory),
        bound=bounds[limit] if limit else None,
        limit=limit,
        measured=_run(executable, program, repeats) if target.local else None,
    )


def unoptimised_flops(program: Compilable, platform: str) -> float | None:
    """Of all devices together, as lowered for a platform ("cpu", "cuda" or "tpu") that need not be there.

    Args:
        program: with arguments on devices that are there, or on none.
        platform: whose forms of the operations are counted.
    """
    traced = jax.jit(program.function, donate_argnums=program.donated).trace(*program.arguments)
    return _figure(traced.lower(lowering_platforms=(platform,)).cost_analysis(), "flops")


def _options(target: Target, effort: float) -> dict[str, Any] | None:
    if target.platform == "cuda" and not target.local:
        return _UNTUNED
    return {"exec_time_optimization_effort": effort} if target.platform == "tpu" and effort else None


class _Clock:
    """Wall and processor seconds since it was made, on top of those of an earlier stage."""

    def __init__(self, earlier: Lowered | None = None) -> None:
        before = (earlier.seconds, earlier.processor_seconds) if earlier else (0.0, 0.0)
        self._start = time.perf_counter() - before[0], time.process_time() - before[1]

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._start[0], time.process_time() - self._start[1]


def _figure(costs: Any, name: str) -> float | None:
    costs = costs[0] if isinstance(costs, list) and costs else costs
    value = (costs or {}).get(name)
    return float(value) if value and value > 0 else None


def _reason(text: str) -> str:
    if not _TOO_LARGE.search(text):
        return f"does not compile: {text[:200]}"
    needed = _NEEDED.search(text)
    return f"out of memory: {f'{needed[1]} exceeds available {needed[2]}' if needed else text[:120]}"


def _run(executable: Any, program: Compilable, repeats: int) -> float:
    """Median seconds of a run on zeros; donated arguments are made anew each time, outside of what is timed."""

    def fresh(position: int) -> Any:
        return jax.tree.map(_zeros, program.arguments[position])

    arguments = [fresh(i) for i in range(len(program.arguments))]
    times = []
    for _ in range(repeats + 1):
        for position in program.donated:
            arguments[position] = fresh(position)
        jax.block_until_ready(arguments)
        started = time.perf_counter()
        jax.block_until_ready(executable(*arguments))
        times.append(time.perf_counter() - started)
    return statistics.median(times[1:])


def _zeros(leaf: Any) -> jax.Array:
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.device_put(jax.random.key(0), leaf.sharding)
    return jax.device_put(jax.numpy.zeros(leaf.shape, leaf.dtype), leaf.sharding)
