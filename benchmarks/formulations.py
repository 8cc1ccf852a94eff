"""Forms of attention, grouped convolution, batch norm, patch embedding and dropout, at the shapes of the models.

    python -m benchmarks.formulations [--only=attention,stage] [--topology=none] [--repeats=5] [--output=FILE]

What the choices in `ecgjax.models.attention` and `ecgjax.models.convolution`, and the forms of batch norm and patch
embedding in the models, are made by. Attention at a quarter of the batch. For a TPU v5e, MB moved forward / with
gradients: batch norm in two passes 42 / 89, with its own gradient 42 / 84, in one pass 37 / 73, which loses digits and
is not used; patches as a strided convolution 58 / 148, as a product of reshaped arrays 96 / 243; other figures stand
beside the choices. See `benchmarks.forms` for what is measured.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.forms import Form, run, shape
from ecgjax.models import ecg_jepa, net1d, st_mem
from ecgjax.models.attention import attend_cross
from ecgjax.models.batch_norm import normalise
from ecgjax.models.convolution import convolution, linear
from ecgjax.models.dropout import drop

Array = jax.Array


def forms(batch: int) -> list[Form]:
    return [
        *_attention(batch // 4),
        *_grouped(batch),
        *_positional(batch // 4),
        *_norm(batch),
        *_patches(batch),
        *_dropout(batch // 4),
    ]


def _attention(batch: int) -> list[Form]:
    """ECG-JEPA's: tokens of 8 leads x 50 patches, 16 heads of 48 channels."""
    rows, tokens = len(ecg_jepa.LEADS), len(ecg_jepa.LEADS) * ecg_jepa.POSITIONS
    x = shape(batch, tokens, ecg_jepa.HEADS, ecg_jepa.WIDTH // ecg_jepa.HEADS)
    case = f"attention {rows} x {ecg_jepa.POSITIONS}"
    return [Form(case, name, partial(attend_cross, rows=rows, form=name), (x, x, x), 3) for name in ("parts", "masked")]


def _grouped(batch: int) -> list[Form]:
    """The convolutions of Net1D's stages on 2.5 s at 500 Hz, and of ECGFounder's of the same width."""
    found = []
    for channels, length in ((64, 313), (128, 313), (160, 157), (400, 40)):
        x, kernel = shape(batch, length, channels), shape(net1d.TAPS, net1d.GROUP_WIDTH, channels)
        for name in ("plain", "dense"):
            found.append(Form(f"stage {channels} x {length}", name, _convolution(name, channels), (x, kernel), 2))
    return found


def _convolution(form: str, channels: int) -> Callable[..., Array]:
    return lambda x, kernel: convolution(x, kernel, 1, "same", channels // net1d.GROUP_WIDTH, form)


def _positional(batch: int) -> list[Form]:
    """HuBERT-ECG's and ECG-FM's convolution over tokens: 128 taps, 16 groups of 48 channels."""
    x, kernel = shape(batch, 93, 768), shape(128, 48, 768)
    return [
        Form("positional 768 x 93", name, partial(convolution, padding=(64, 63), groups=16, form=name), (x, kernel), 2)
        for name in ("plain", "fourier")
    ]


def _norm(batch: int) -> list[Form]:
    """Batch norm in training, of a MERL ResNet's first stage, before a ReLU."""
    x, scale = shape(batch, 625, 64), shape(64)
    candidates = {"two passes": _two_passes, "one pass": _one_pass, "own gradient": _own_gradient}
    return [Form("batch norm 64 x 625", name, f, (x, scale, scale), 3) for name, f in candidates.items()]


def _two_passes(x: Array, scale: Array, bias: Array) -> Array:
    mean = jnp.mean(x, (0, 1), keepdims=True)
    return _normalised(x, mean, jnp.mean(jnp.square(x - mean), (0, 1), keepdims=True), scale, bias)


def _one_pass(x: Array, scale: Array, bias: Array) -> Array:
    """The variance as the mean of squares less the square of the mean; loses digits where the mean is large."""
    mean = jnp.mean(x, (0, 1), keepdims=True)
    return _normalised(x, mean, jnp.mean(jnp.square(x), (0, 1), keepdims=True) - jnp.square(mean), scale, bias)


def _own_gradient(x: Array, scale: Array, bias: Array) -> Array:
    return jax.nn.relu(normalise(x, scale, bias, 1e-5)[0])


def _normalised(x: Array, mean: Array, var: Array, scale: Array, bias: Array) -> Array:
    return jax.nn.relu((x - mean) * lax.rsqrt(var + 1e-5) * scale[None, None] + bias[None, None])


def _patches(batch: int) -> list[Form]:
    """ST-MEM's: patches of one lead; MERL ViT's are of all leads, one after the other."""
    leads, patch, width = 12, st_mem.PATCH, st_mem.WIDTH
    x, kernel = shape(batch, 30 * patch, leads), shape(patch, leads, width)
    candidates = {"convolution": partial(_strided, patch=patch), "product": partial(_product, patch=patch)}
    return [Form(f"patches 30 x {patch} x {leads}", name, f, (x, kernel), 2) for name, f in candidates.items()]


def _strided(x: Array, kernel: Array, patch: int) -> Array:
    return convolution(x, kernel, patch)


def _product(x: Array, kernel: Array, patch: int) -> Array:
    batch, samples, leads = x.shape
    x = x.reshape(batch, samples // patch, patch * leads)
    return linear(x, kernel.reshape(patch * leads, -1))


def _dropout(batch: int) -> list[Form]:
    """Inside the MLP of HuBERT-ECG and ECG-FM, after an operation that its gradient needs."""
    functions = {"bernoulli": _bernoulli, "threefry": lambda x, key: drop(x, 0.1, key)}
    return [
        Form("dropout 3072 x 156", name, lambda x, f=f: f(jnp.tanh(x), _key(x)), (shape(batch, 156, 3072),), 1)
        for name, f in functions.items()
    ]


def _bernoulli(x: Array, key: Array) -> Array:
    return jnp.where(jax.random.bernoulli(key, 0.9, x.shape), x / 0.9, 0.0)


def _key(x: Array) -> Array:
    """A key of the input's bits, so that the mask is no constant."""
    return jax.random.wrap_key_data(lax.bitcast_convert_type(x.ravel()[:2], jnp.uint32))


if __name__ == "__main__":
    run(__doc__, "formulations", forms)
