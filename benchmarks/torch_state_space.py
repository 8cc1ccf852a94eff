"""The S4 models' arithmetic in torch, for comparison of speed only; see `torch_models`.

As in the public implementations: kernels are made in every forward pass by a Cauchy sum in complex64 over conjugate
pairs and an inverse Fourier transform, and applied by Fourier transforms of twice the length; C and D are trained.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from ecgjax.models import ecg_cpc, s4

WIDTH, PAIRS, LAYERS = 512, 4, 4


class S4Layer(nn.Module):
    """State space, GELU, tied dropout, pointwise convolution and GLU: (batch, width, time)."""

    def __init__(self, l_max: int, bidirectional: bool) -> None:
        super().__init__()
        self.l_max, self.bidirectional = l_max, bidirectional
        self.C = nn.Parameter(torch.randn(1 + bidirectional, WIDTH, PAIRS, 2))
        self.D = nn.Parameter(torch.randn(WIDTH))
        low, high = (math.log(x) for x in s4.DT_RANGE)
        self.register_buffer("dt", torch.exp(low + (high - low) * torch.rand(WIDTH)))
        state = torch.complex(torch.full((PAIRS,), -0.5), torch.tensor([19.857, 5.354, 1.958, 0.4275]))
        self.register_buffer("state", state.expand(WIDTH, PAIRS))
        P = torch.tensor([3.646, 1.304, 0.831, 0.565]).to(torch.complex64)
        self.register_buffer("P", P.expand(WIDTH, PAIRS))
        self.register_buffer("B", (2**0.5 * P).expand(WIDTH, PAIRS))
        # Kept off -1, where z has no value.
        omega = torch.exp(-2j * math.pi * torch.arange(l_max // 2 + 1) / l_max) + 1e-6
        self.register_buffer("omega", omega)
        self.register_buffer("z", 2 * (1 - omega) / (1 + omega))
        self.dropout, self.output = nn.Dropout1d(0.2), nn.Conv1d(WIDTH, 2 * WIDTH, 1)

    def kernel(self, length: int) -> Tensor:
        """(kernels, width, length)."""
        dt = self.dt[:, None]
        poles = self.state * dt
        C, P, B = torch.view_as_complex(self.C), self.P[None], self.B[None]
        kernels = len(C)
        # Numerators of B C, P C (for every kernel), B Q and P Q, with Q the conjugate of P.
        v = (torch.cat([B * C, P * C, B * P.conj(), P * P.conj()]) * dt)[..., None]
        sums = (v / (self.z - poles[..., None]) + v.conj() / (self.z - poles.conj()[..., None])).sum(2)
        of_C, of_P_C, of_Q, of_P_Q = sums.split([kernels, kernels, 1, 1])
        spectrum = 2 / (1 + self.omega) * (of_C - of_Q * of_P_C / (1 + of_P_Q))
        return torch.fft.irfft(spectrum, self.l_max)[..., :length]

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[-1]
        k = self.kernel(length)
        whole = functional.pad(k[0], (0, length))
        if self.bidirectional:
            whole = whole + functional.pad(k[1].flip(-1), (length, 0))
        y = torch.fft.irfft(torch.fft.rfft(u, 2 * length) * torch.fft.rfft(whole), 2 * length)[..., :length]
        y = self.dropout(functional.gelu(y + u * self.D[:, None]))
        return functional.glu(self.output(y), 1)


class S4Model(nn.Module):
    """Layers before, a post-norm residual stack of S4 layers, mean over time."""

    def __init__(self, before: nn.Module, l_max: int, bidirectional: bool) -> None:
        super().__init__()
        self.before = before
        self.layers = nn.ModuleList(S4Layer(l_max, bidirectional) for _ in range(LAYERS))
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.dropout = nn.Dropout1d(0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm((x + self.dropout(layer(x))).transpose(1, 2)).transpose(1, 2)
        return x.mean(-1)


def s4_model() -> nn.Module:
    return S4Model(nn.Conv1d(12, WIDTH, 1), int(2.5 * s4.RATE), True)


def ecg_cpc_model() -> nn.Module:
    layers: list[nn.Module] = []
    inside = 12
    for taps, stride in zip(ecg_cpc.KERNEL_WIDTHS, ecg_cpc.STRIDES, strict=True):
        layers += [nn.Conv1d(inside, WIDTH, taps, stride, taps // 2, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU()]
        inside = WIDTH
    return S4Model(nn.Sequential(*layers), 1200, False)
