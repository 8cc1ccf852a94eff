"""What is read from the compiler, on programs whose costs are known."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import SingleDeviceSharding

from ecgjax import chips
from ecgjax.compilation import measure
from ecgjax.compilation.measure import Compiled, Lowered
from ecgjax.compilation.programs import Compilable
from ecgjax.compilation.targets import Target

V5E = chips.find("TPU v5e")
assert V5E
CPU = Target("local", "cpu", jax.local_devices(), V5E, False)
N = 256
SQUARE = 4 * N * N


def product(donated: tuple[int, ...] = ()) -> Compilable:
    matrix = jax.ShapeDtypeStruct((N, N), jnp.float32, sharding=SingleDeviceSharding(jax.local_devices()[0]))
    return Compilable("product", lambda x, y: x @ y + x, (matrix, matrix), donated, 0)


def compiled(program: Compilable, target: Target = CPU, dtype: str = "float32") -> Compiled:
    return measure.compile_for(measure.lower(program), target, dtype)


def test_a_product() -> None:
    found = compiled(product())
    assert found.flops == pytest.approx(2 * N**3, rel=0.01)
    assert found.bytes is not None
    assert 3 * SQUARE <= found.bytes <= 6 * SQUARE
    assert (found.arguments, found.outputs) == (2 * SQUARE, SQUARE)
    assert found.memory == 3 * SQUARE + (found.temporaries or 0)
    assert found.fits
    assert found.error is None
    assert found.collectives == {}
    assert found.measured is None
    assert found.processor_seconds > 0
    assert found.seconds > 0


def test_what_is_donated_is_counted_once() -> None:
    kept, donated = compiled(product()), compiled(product((0,)))
    assert donated.arguments == kept.arguments
    assert donated.outputs == 0
    assert donated.memory == (kept.memory or 0) - SQUARE - (kept.temporaries or 0) + (donated.temporaries or 0)


def test_lower_bound() -> None:
    assert V5E
    found = compiled(product())
    assert found.flops
    assert found.bytes
    times = {"compute": found.flops / V5E.float32, "memory": found.bytes / V5E.bandwidth}
    assert found.limit == max(times, key=lambda name: times[name])
    assert found.bound == times[found.limit]
    half = compiled(product(), dtype="bfloat16")
    assert half.limit == "memory"
    assert half.bound == times["memory"]


def test_a_chip_that_is_too_small() -> None:
    assert V5E
    needed = compiled(product()).memory
    assert needed
    for memory, fits in ((needed, True), (needed - 1, False), (0, True)):  # 0: not known
        chip = chips.Chip("small", 1e12, 1e12, memory, 1e9, "")
        assert compiled(product(), CPU._replace(chip=chip)).fits is fits


HLO = """
  %all-reduce.1 = f32[8]{0} all-reduce(f32[8]{0} %p), channel_id=1, to_apply=%add
  ROOT %all-reduce.2 = (f32[8]{0}, f32[4]{0:T(128)}) all-reduce(%a, %b), channel_id=2
  %all-gather-start.1 = (f32[2]{0}, f32[8]{0}) all-gather-start(%p), dimensions={0}
  %all-gather-done.1 = f32[8]{0} all-gather-done(%all-gather-start.1)
  %cp = ((f32[2]), f32[2], u32[]) collective-permute-start(%p)
  %fusion = f32[8]{0} fusion(%all-reduce.1), kind=kLoop, calls=%fused_all-reduce, metadata={op_name="all-to-all(x)"}
  %rs = f32[2]{0:T(128)S(1)} reduce-scatter(%p), dimensions={0}
"""


class Stage:
    """In place of JAX's own."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.options: Any = None

    def compile(self, options: Any) -> Any:
        self.options = options
        if self.error:
            raise self.error
        return self

    def as_text(self) -> str:
        return HLO

    def cost_analysis(self) -> Any:
        return None

    def memory_analysis(self) -> Any:
        return type("Memory", (), dict.fromkeys(MEMORY, 10))()


MEMORY = ("output_size_in_bytes", "alias_size_in_bytes", "argument_size_in_bytes", "temp_size_in_bytes")


def of_stage(stage: Any) -> Compiled:
    return measure.compile_for(Lowered(product(), stage, "", 1.0, 2.0), CPU)


@pytest.mark.parametrize(("platform", "options"), [("tpu", None), ("cuda", {"xla_gpu_enable_triton_gemm": False})])
def test_products_of_absent_gpus_are_those_of_the_library(platform: str, options: Any) -> None:
    stage: Any = Stage()
    measure.compile_for(Lowered(product(), stage, "", 1.0, 2.0), CPU._replace(platform=platform))
    assert stage.options == options


def test_collectives_are_counted_once_by_kind() -> None:
    found = of_stage(Stage())
    assert found.collectives == {"all-gather": 1, "all-reduce": 2, "collective-permute": 1, "reduce-scatter": 1}


def test_what_is_not_reported() -> None:
    found = of_stage(Stage())
    assert found.bytes is None
    assert found.flops == pytest.approx(2 * N**3, rel=0.01)  # before optimisation
    assert found.limit == "compute"
    assert found.memory == 20
    assert found.fits
    assert found.seconds >= 1.0  # that of lowering included
    assert found.processor_seconds >= 2.0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (37.29G) "
            "exceeds available HBM (15.75G).",
            "out of memory: 37.29G exceeds available HBM (15.75G)",
        ),
        (
            "XLA:TPU compile permanent error. Ran out of memory in memory space hbm.\nUsed 54.91G exceeds available "
            "HBM (15.75G)",
            "out of memory: 54.91G exceeds available HBM (15.75G)",
        ),
        ("RESOURCE_EXHAUSTED: scoped\n  vmem", "out of memory: RESOURCE_EXHAUSTED: scoped vmem"),
        ("UNIMPLEMENTED: f64\nFFT", "does not compile: UNIMPLEMENTED: f64 FFT"),
    ],
)
def test_errors_of_the_compiler(text: str, reason: str) -> None:
    found = of_stage(Stage(jax.errors.JaxRuntimeError(text)))
    assert found.error == reason
    assert not found.fits
    assert found.memory is None


def test_the_same_program_has_the_same_digest() -> None:
    first, second = measure.lower(product()), measure.lower(product())
    assert first.digest == second.digest
    assert first.digest != measure.lower(product((0,))).digest
