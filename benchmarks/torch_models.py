"""The encoders' arithmetic in torch, for comparison of speed only: layer types, sizes and order, pooled features out.

Names and initialisation are torch's own; `tests` compare ecgjax with the reference's numbers instead.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.torch_state_space import ecg_cpc_model, s4_model
from benchmarks.torch_transformers import CONVOLUTIONS, PRE_NORM, Transformer
from ecgjax.models import ecgfm_ked, merl_resnet, net1d


class Same(nn.Conv1d):
    """Convolution with TensorFlow's padding."""

    def forward(self, x: Tensor) -> Tensor:
        (width,), (stride,), length = self.kernel_size, self.stride, x.shape[-1]
        total = max(0, (-(-length // stride) - 1) * stride + width - length)
        return super().forward(functional.pad(x, (total // 2, total - total // 2)))


class Net1DBlock(nn.Module):
    """As `ecgjax.models.net1d.Net1DBlock`."""

    def __init__(self, inside: int, width: int, stride: int, first: bool) -> None:
        super().__init__()
        self.stride, self.first, self.extra = stride, first, width - inside
        self.conv = nn.ModuleList(
            [Same(inside, width, 1), Same(width, width, 16, stride, groups=width // 16), Same(width, width, 1)]
        )
        self.squeeze, self.excite = nn.Linear(width, width // 2), nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv[0](x if self.first else functional.silu(x))
        y = self.conv[2](functional.silu(self.conv[1](functional.silu(y))))
        y = y * torch.sigmoid(self.excite(functional.silu(self.squeeze(y.mean(-1)))))[..., None]
        if self.stride == 2:
            x = functional.max_pool1d(functional.pad(x, (0, 1)), 2)
        before = self.extra // 2
        return y + functional.pad(x.transpose(1, 2), (before, self.extra - before)).transpose(1, 2)


class Pooled(nn.Sequential):
    """Layers, then the mean over time."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).mean(-1)


def net1d_model() -> nn.Module:
    layers: list[nn.Module] = [Same(12, net1d.STEM_WIDTH, 16, 2), nn.SiLU()]
    inside = net1d.STEM_WIDTH
    for s, (width, blocks) in enumerate(zip(net1d.WIDTHS, net1d.BLOCKS, strict=True)):
        for b in range(blocks):
            layers.append(Net1DBlock(inside, width, 2 if b == 0 else 1, s + b == 0))
            inside = width
    return Pooled(*layers)


def conv_norm(inside: int, width: int, taps: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    layers = [nn.Conv1d(inside, width, taps, stride, taps // 2, bias=False), nn.BatchNorm1d(width)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


class Residual(nn.Module):
    """ReLU of the sum of two paths."""

    def __init__(self, body: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x))


def merl_resnet_model() -> nn.Module:
    layers: list[nn.Module] = [conv_norm(12, 64, 7, 2)]
    inside = 64
    for i, width in enumerate(merl_resnet.WIDTHS):
        for b in range(merl_resnet.BLOCKS):
            stride = 2 if i > 0 and b == 0 else 1
            body = nn.Sequential(conv_norm(inside, width, 3, stride), conv_norm(width, width, 3, relu=False))
            same = stride == 1 and inside == width
            layers.append(Residual(body, nn.Identity() if same else conv_norm(inside, width, 1, stride, relu=False)))
            inside = width
    return Pooled(*layers)


def ecgfm_ked_model() -> nn.Module:
    layers: list[nn.Module] = []
    inside = 12
    for i, width in enumerate(ecgfm_ked.STEM):
        layers.append(conv_norm(inside, width, 5, 2 if i == 0 else 1))
        inside = width
    layers.append(nn.MaxPool1d(3, 2, 1))
    for s, (width, blocks) in enumerate(zip(ecgfm_ked.WIDTHS, ecgfm_ked.BLOCKS, strict=True)):
        for b in range(blocks):
            stride, out = 2 if s > 0 and b == 0 else 1, ecgfm_ked.EXPANSION * width
            convs = [
                conv_norm(inside, width, 1),
                conv_norm(width, width, 5, stride),
                conv_norm(width, out, 1, relu=False),
            ]
            identity: list[nn.Module] = [nn.AvgPool1d(2, 2, ceil_mode=True)] if stride == 2 else []
            identity += [conv_norm(inside, out, 1, relu=False)] if inside != out else []
            layers.append(Residual(nn.Sequential(*convs), nn.Sequential(*identity)))
            inside = out
    return Pooled(*layers)


# Registry name -> a function that builds the model; (batch, leads, samples) -> (batch, channels).
MODELS: dict[str, Callable[[], nn.Module]] = {
    "ecg_cpc": ecg_cpc_model,
    "ecg_founder": net1d_model,
    "ecgfm_ked": ecgfm_ked_model,
    "merl_resnet": merl_resnet_model,
    "net1d": net1d_model,
    "s4": s4_model,
    **{name: partial(Transformer, name) for name in (*PRE_NORM, *CONVOLUTIONS)},
}
