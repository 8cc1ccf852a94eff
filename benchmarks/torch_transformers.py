"""The transformers' arithmetic in torch, for comparison of speed only; see `torch_models`."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = {"ecg_jepa": 16, "merl_vit": 3}
PRE_NORM = ("ecg_jepa", "merl_vit", "st_mem")
CONVOLUTIONS = {"hubert_ecg": (512, [(10, 4), (3, 2), (3, 2), (2, 2), (2, 2)]), "ecg_fm": (256, [(2, 2)] * 4)}


class Block(nn.Module):
    """Attention with an explicit softmax, as the reference implementations have it, and an MLP."""

    def __init__(self, width: int, heads: int, pre_norm: bool, mask: Tensor | None) -> None:
        super().__init__()
        self.heads, self.pre_norm, self.mask = heads, pre_norm, mask
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        logits = q @ k.transpose(-1, -2) * (width // self.heads) ** -0.5
        if self.mask is not None:
            logits = logits.masked_fill(~self.mask, float("-inf"))
        return self.output((logits.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.norms
        if self.pre_norm:
            x = x + self.attend(first(x))
            return x + self.mlp(second(x))
        x = first(x + self.attend(x))
        return second(x + self.mlp(x))


class Waveform(nn.Module):
    """Tokens of HuBERT-ECG and ECG-FM: convolutions, projection, positional convolution."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        channels, layers = CONVOLUTIONS[name]
        self.joined = name == "hubert_ecg"
        inside = [1 if self.joined else 12, *[channels] * (len(layers) - 1)]
        self.convolutions = nn.ModuleList(
            nn.Conv1d(i, channels, taps, stride, bias=False) for i, (taps, stride) in zip(inside, layers, strict=True)
        )
        self.group_norm, self.norm = nn.GroupNorm(channels, channels), nn.LayerNorm(channels)
        self.projection = nn.Linear(channels, width)
        position = nn.Conv1d(width, width, 128, padding=64, groups=16)
        self.position = nn.utils.parametrizations.weight_norm(position, dim=2)
        self.last_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(len(x), 1, -1) if self.joined else x
        for i, convolution in enumerate(self.convolutions):
            x = convolution(x)
            x = functional.gelu(x if i else self.group_norm(x))
        x = self.projection(self.norm(x.transpose(1, 2)))
        position = functional.gelu(self.position(x.transpose(1, 2))[..., :-1])
        return self.last_norm(x + position.transpose(1, 2))


class Patches(nn.Module):
    """Tokens of the ViTs; positions, whose cost is nothing, are left out."""

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        self.name = name
        size = {"merl_vit": 12 * 50, "ecg_jepa": 50, "st_mem": 75}[name]
        self.projection = nn.Linear(size, width)

    def forward(self, x: Tensor) -> Tensor:
        if self.name == "merl_vit":
            return self.projection(x.unfold(2, 50, 50).permute(0, 2, 1, 3).flatten(2))
        if self.name == "ecg_jepa":
            return self.projection(x[:, [0, 1, 6, 7, 8, 9, 10, 11]].reshape(len(x), -1, 50))
        x = self.projection(x.reshape(len(x), -1, 75))
        return torch.cat([x, x[:, :24]], 1)  # as many tokens as with the two separators of every lead


class Transformer(nn.Module):
    """Tokens, twelve blocks, mean over tokens."""

    def __init__(self, name: str) -> None:
        super().__init__()
        width = 192 if name == "merl_vit" else 768
        self.tokens = Waveform(name, width) if name in CONVOLUTIONS else Patches(name, width)
        mask = None
        if name == "ecg_jepa":
            lead, time = np.divmod(np.arange(400), 50)
            mask = torch.from_numpy((lead[:, None] == lead) | (time[:, None] == time))
        heads = HEADS.get(name, 12)
        self.blocks = nn.Sequential(*[Block(width, heads, name in PRE_NORM, mask) for _ in range(12)])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.tokens(x)).mean(1)
