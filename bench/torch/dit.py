"""A diffusion transformer in plain PyTorch: the peer that the benches measure against.

Parameter names, config keys and arithmetic are those of diffusers' `DiTTransformer2DModel` with
`norm_type = "ada_norm_zero"` (Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv 2212.09748),
so that a model folder of either side loads here unchanged.

    python dit.py FOLDER    compares output, loss and gradients with FOLDER/io.safetensors
"""

import json
import math
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def timestep_sinusoid(timestep: Tensor, channels: int = 256, max_period: float = 10000.0) -> Tensor:
    """[B] -> [B, channels], cosines first; the lowest frequency is exactly 1 / max_period."""
    half = channels // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -math.log(max_period) / (half - 1))
    angles = timestep.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def position_sinusoid(grid: int, width: int) -> Tensor:
    """[1, grid * grid, width]: the first half of the features encodes the column, the second half the row."""
    # In float64 as diffusers does, otherwise the highest positions differ in the last bits.
    frequencies = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    line = torch.cat([angles.sin(), angles.cos()], dim=-1)
    columns = line[None, :, :].expand(grid, grid, -1)
    rows = line[:, None, :].expand(grid, grid, -1)
    return torch.cat([columns, rows], dim=-1).reshape(1, grid * grid, width).float()


class PatchEmbed(nn.Module):
    def __init__(self, in_channels: int, patch: int, grid: int, width: int):
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, kernel_size=patch, stride=patch)
        self.register_buffer("pos_embed", position_sinusoid(grid, width), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2) + self.pos_embed


class TimestepEmbedding(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(256, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, timestep: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(timestep_sinusoid(timestep))))


class LabelEmbedding(nn.Module):
    """One row per class and a last one for a dropped label; dropping is left to the caller."""

    def __init__(self, classes: int, width: int):
        super().__init__()
        self.embedding_table = nn.Embedding(classes + 1, width)

    def forward(self, label: Tensor) -> Tensor:
        return self.embedding_table(label)


class Conditioning(nn.Module):
    def __init__(self, classes: int, width: int):
        super().__init__()
        self.timestep_embedder = TimestepEmbedding(width)
        self.class_embedder = LabelEmbedding(classes, width)

    def forward(self, timestep: Tensor, label: Tensor) -> Tensor:
        return self.timestep_embedder(timestep) + self.class_embedder(label)


class AdaLayerNormZero(nn.Module):
    def __init__(self, classes: int, width: int):
        super().__init__()
        self.emb = Conditioning(classes, width)
        self.linear = nn.Linear(width, 6 * width)
        # This norm has its own epsilon: the config's norm_eps is for norm3 only.
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor) -> tuple[Tensor, ...]:
        modulation = self.linear(F.silu(self.emb(timestep, label))).unsqueeze(1)
        shift, scale, *rest = modulation.chunk(6, dim=-1)
        return self.norm(x) * (1 + scale) + shift, *rest


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=bias)
        self.to_k = nn.Linear(width, width, bias=bias)
        self.to_v = nn.Linear(width, width, bias=bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (to(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v))
        return self.to_out[0](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GELU(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        # The identity stands where diffusers has a dropout: it keeps the index of the second projection.
        self.net = nn.Sequential(GELU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, classes: int, bias: bool, eps: float, affine: bool):
        super().__init__()
        self.norm1 = AdaLayerNormZero(classes, width)
        self.attn1 = Attention(width, heads, bias)
        self.norm3 = nn.LayerNorm(width, eps=eps, elementwise_affine=affine)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        h, gate_attn, shift, scale, gate_ff = self.norm1(x, timestep, label)
        x = x + gate_attn * self.attn1(h)
        return x + gate_ff * self.ff(self.norm3(x) * (1 + scale) + shift)


class DiT(nn.Module):
    """`DiT(**config)`: config.json as diffusers writes it. Square images of `sample_size` only."""

    def __init__(
        self,
        num_attention_heads: int = 16,
        attention_head_dim: int = 72,
        in_channels: int = 4,
        out_channels: int | None = None,
        num_layers: int = 28,
        attention_bias: bool = True,
        sample_size: int = 32,
        patch_size: int = 2,
        num_embeds_ada_norm: int = 1000,
        norm_eps: float = 1e-5,
        norm_elementwise_affine: bool = False,
        activation_fn: str = "gelu-approximate",
        norm_type: str = "ada_norm_zero",
        dropout: float = 0.0,
        **unused: object,  # norm_num_groups, upcast_attention and diffusers' own bookkeeping change nothing here
    ):
        super().__init__()
        if (activation_fn, norm_type, dropout) != ("gelu-approximate", "ada_norm_zero", 0.0):
            raise ValueError(
                "DiT: expected activation_fn gelu-approximate, norm_type ada_norm_zero and dropout 0, "
                f"found {activation_fn}, {norm_type} and {dropout}"
            )
        width = num_attention_heads * attention_head_dim
        self.in_channels, self.sample_size, self.patch = in_channels, sample_size, patch_size
        self.out_channels = in_channels if out_channels is None else out_channels
        self.grid, self.classes = sample_size // patch_size, num_embeds_ada_norm
        self.pos_embed = PatchEmbed(in_channels, patch_size, self.grid, width)
        self.transformer_blocks = nn.ModuleList(
            Block(width, num_attention_heads, num_embeds_ada_norm, attention_bias, norm_eps, norm_elementwise_affine)
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.proj_out_1 = nn.Linear(width, 2 * width)
        self.proj_out_2 = nn.Linear(width, patch_size * patch_size * self.out_channels)

    def forward(self, image: Tensor, timestep: Tensor, label: Tensor) -> Tensor:
        """[B, in_channels, H, W], [B], [B] -> [B, out_channels, H, W]"""
        x = self.pos_embed(image)
        for block in self.transformer_blocks:
            x = block(x, timestep, label)
        # The output has no conditioning of its own: it borrows the first block's embedder.
        conditioning = self.transformer_blocks[0].norm1.emb(timestep, label)
        shift, scale = self.proj_out_1(F.silu(conditioning)).unsqueeze(1).chunk(2, dim=-1)
        x = self.proj_out_2(self.norm_out(x) * (1 + scale) + shift)
        # A token's features are [patch row, patch column, channel].
        x = x.unflatten(2, (self.patch, self.patch, self.out_channels)).unflatten(1, (self.grid, self.grid))
        return x.permute(0, 5, 1, 3, 2, 4).reshape(-1, self.out_channels, self.sample_size, self.sample_size)


def load_config(path: Path) -> DiT:
    return DiT(**json.loads(path.read_text()))


def compare(folder: Path) -> float:
    """Largest difference from a model folder's recorded output, loss and gradients, relative to each tensor's largest value."""
    from safetensors.torch import load_file

    model = load_config(folder / "config.json")
    model.load_state_dict(load_file(folder / "diffusion_pytorch_model.safetensors"))
    io = load_file(folder / "io.safetensors")
    sample = model(io["in.hidden_states"], io["in.timestep"], io["in.class_labels"])
    loss = (sample - io["in.target"]).square().mean()
    loss.backward()

    found = {"out.sample": sample.detach(), "loss": loss.detach().reshape(1)}
    found |= {f"grad.{name}": parameter.grad for name, parameter in model.named_parameters()}
    if missing := {key for key in io if not key.startswith("in.")} ^ set(found):
        raise ValueError(f"{folder}: tensors on one side only: {sorted(missing)}")
    worst = 0.0
    for key, value in found.items():
        absolute = (value - io[key]).abs().max().item()
        # The floor is for the biases of keys: softmax does not see them, so their gradients are rounding alone.
        relative = absolute / max(io[key].abs().max().item(), 1e-3)
        worst = max(worst, relative)
        print(f"{key:80s} absolute {absolute:.1e} relative {relative:.1e}")
    return worst


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    worst = compare(Path(sys.argv[1]))
    print(f"worst relative difference {worst:.1e}")
    sys.exit(0 if worst < 1e-5 else 1)
