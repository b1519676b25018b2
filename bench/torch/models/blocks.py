"""What several models share: embeddings, attention and the rest of a block."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sinusoid(timestep: Tensor, channels: int, flip: bool = True, shift: float = 0.0) -> Tensor:
    """[B] -> [B, channels]: geometrically spaced frequencies down to 1 / 10000; cosines first when `flip`."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * (-math.log(10000.0) / (half - shift)))
    angles = timestep.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()] if flip else [angles.sin(), angles.cos()], dim=-1)


class TwoLinears(nn.Module):
    """`linear_1`, SiLU or tanh GELU, `linear_2`."""

    def __init__(self, inputs: int, width: int, gelu: bool = False):
        super().__init__()
        self.gelu = gelu
        self.linear_1 = nn.Linear(inputs, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear_1(x)
        return self.linear_2(F.gelu(hidden, approximate="tanh") if self.gelu else F.silu(hidden))


def heads_of(x: Tensor, heads: int) -> Tensor:
    """[B, T, C] -> [B, heads, T, C / heads]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(q: Tensor, k: Tensor, v: Tensor, **options: object) -> Tensor:
    """[B, heads, T, D] each -> [B, T, heads * D]"""
    return F.scaled_dot_product_attention(q, k, v, **options).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Attention of tokens to themselves or to a context, with diffusers' projections; the one to the output has a bias always."""

    def __init__(self, width: int, heads: int, bias: bool, context: int | None = None):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(context or width, width, bias=bias)
        self.to_v = nn.Linear(context or width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        y = x if context is None else context
        q, k, v = (heads_of(z, self.heads) for z in (self.to_q(x), self.to_k(y), self.to_v(y)))
        return self.to_out[0](attend(q, k, v))


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """Layer norm without weights, scaled and shifted by [B, 1, C] each."""
    return F.layer_norm(x, x.shape[-1:], eps=eps) * (1 + scale) + shift


class Modulation(nn.Module):
    """Conditioning [B, C] to `pieces` of [B, 1, width]."""

    def __init__(self, width: int, pieces: int):
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(width, pieces * width)

    def forward(self, conditioning: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(conditioning)).unsqueeze(1).chunk(self.pieces, dim=-1)


def unpatchify(x: Tensor, rows: int, columns: int, patch: int) -> Tensor:
    """[B, rows * columns, patch * patch * C] -> [B, C, rows * patch, columns * patch]"""
    x = x.unflatten(2, (patch, patch, -1)).unflatten(1, (rows, columns))
    return x.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)
