"""PixArt, SD3 and Flux: diffusers' transformers by names, config and arithmetic."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dit import FeedForward, PatchEmbed

from .blocks import Attention, Modulation, TwoLinears, attend, heads_of, modulate, sinusoid, unpatchify


class TimestepEmbedder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.timestep_embedder = TwoLinears(256, width)

    def forward(self, timestep: Tensor) -> Tensor:
        return self.timestep_embedder(sinusoid(timestep, 256))


class AdaLayerNormSingle(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.emb = TimestepEmbedder(width)
        self.linear = nn.Linear(width, 6 * width)

    def forward(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        embedded = self.emb(timestep)
        return self.linear(F.silu(embedded)), embedded


class PixArtBlock(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool, eps: float):
        super().__init__()
        self.eps = eps
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.attn1 = Attention(width, heads, bias)
        self.attn2 = Attention(width, heads, bias)
        self.ff = FeedForward(width)

    def forward(self, x: Tensor, text: Tensor, modulation: Tensor) -> Tensor:
        pieces = self.scale_shift_table + modulation.unflatten(1, (6, -1))
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = pieces.chunk(6, dim=1)
        x = x + gate * self.attn1(modulate(x, shift, scale, self.eps))
        x = x + self.attn2(x, text)
        return x + gate_mlp * self.ff(modulate(x, shift_mlp, scale_mlp, self.eps))


class PixArt(nn.Module):
    """Without size conditions, for square samples of the config's size up to 127 (where positions are not interpolated)."""

    def __init__(self, config: dict):
        super().__init__()
        heads = config["num_attention_heads"]
        width = heads * config["attention_head_dim"]
        self.patch, self.grid = config["patch_size"], config["sample_size"] // config["patch_size"]
        self.pos_embed = PatchEmbed(config["in_channels"], self.patch, self.grid, width)
        self.adaln_single = AdaLayerNormSingle(width)
        self.caption_projection = TwoLinears(config["caption_channels"], width, gelu=True)
        self.transformer_blocks = nn.ModuleList(
            PixArtBlock(width, heads, config["attention_bias"], config["norm_eps"]) for _ in range(config["num_layers"])
        )
        self.scale_shift_table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.proj_out = nn.Linear(width, self.patch * self.patch * config["out_channels"])

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, timestep: Tensor) -> dict[str, Tensor]:
        x = self.pos_embed(hidden_states)
        modulation, embedded = self.adaln_single(timestep)
        text = self.caption_projection(encoder_hidden_states)
        for block in self.transformer_blocks:
            x = block(x, text, modulation)
        shift, scale = (self.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
        x = self.proj_out(modulate(x, shift, scale))
        return {"sample": unpatchify(x, self.grid, self.grid, self.patch)}


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float = 1e-6):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotary_tables(ids: Tensor, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Positions [T, axes] to cosines and sines [T, head width], each number for both channels of a pair."""
    angles = [
        ids[:, i, None].double() * 10000.0 ** -(torch.arange(0, d, 2, dtype=torch.float64) / d) for i, d in enumerate(axes)
    ]
    both = torch.cat(angles, dim=1).repeat_interleave(2, dim=1)
    return both.cos().float(), both.sin().float()


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """[B, heads, T, D]: turns pairs of neighbouring channels."""
    cos, sin = tables
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    return x * cos + torch.stack([-second, first], dim=-1).flatten(3) * sin


class JointAttention(nn.Module):
    def __init__(self, width: int, heads: int, qk_norm: bool, text_first: bool, text_out: bool):
        super().__init__()
        self.heads, self.text_first = heads, text_first
        for name in ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj"):
            setattr(self, name, nn.Linear(width, width))
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            setattr(self, name, RMSNorm(width // heads) if qk_norm else nn.Identity())
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.to_add_out = nn.Linear(width, width) if text_out else None

    def forward(self, x: Tensor, text: Tensor, tables: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor | None]:
        def join(image: Tensor, other: Tensor) -> Tensor:
            return torch.cat([other, image] if self.text_first else [image, other], dim=2)

        q = join(self.norm_q(heads_of(self.to_q(x), self.heads)), self.norm_added_q(heads_of(self.add_q_proj(text), self.heads)))
        k = join(self.norm_k(heads_of(self.to_k(x), self.heads)), self.norm_added_k(heads_of(self.add_k_proj(text), self.heads)))
        v = join(heads_of(self.to_v(x), self.heads), heads_of(self.add_v_proj(text), self.heads))
        if tables is not None:
            q, k = rotate(q, tables), rotate(k, tables)
        mixed = attend(q, k, v)
        if self.text_first:
            mixed_text, mixed_x = mixed.split([text.shape[1], x.shape[1]], dim=1)
        else:
            mixed_x, mixed_text = mixed.split([x.shape[1], text.shape[1]], dim=1)
        return self.to_out[0](mixed_x), None if self.to_add_out is None else self.to_add_out(mixed_text)


class JointBlock(nn.Module):
    def __init__(self, width: int, heads: int, qk_norm: bool, text_first: bool, text_out: bool):
        super().__init__()
        self.norm1 = Modulation(width, 6)
        self.norm1_context = Modulation(width, 6 if text_out else 2)
        self.attn = JointAttention(width, heads, qk_norm, text_first, text_out)
        self.ff = FeedForward(width)
        self.ff_context = FeedForward(width) if text_out else None

    def forward(
        self, x: Tensor, text: Tensor, conditioning: Tensor, tables: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor | None]:
        shift, scale, gate, shift_mlp, scale_mlp, gate_mlp = self.norm1(conditioning)
        other = self.norm1_context(conditioning)
        # The text of a last block is only looked at: scale and shift, in that order.
        text_shift, text_scale = other[:2] if self.ff_context is not None else other[::-1]
        mixed, mixed_text = self.attn(modulate(x, shift, scale), modulate(text, text_shift, text_scale), tables)
        x = x + gate * mixed
        x = x + gate_mlp * self.ff(modulate(x, shift_mlp, scale_mlp))
        if self.ff_context is None or mixed_text is None:
            return x, None
        text = text + other[2] * mixed_text
        return x, text + other[5] * self.ff_context(modulate(text, other[3], other[4]))


class TimeTextEmbedding(nn.Module):
    def __init__(self, pooled: int, width: int):
        super().__init__()
        self.timestep_embedder = TwoLinears(256, width)
        self.text_embedder = TwoLinears(pooled, width)

    def forward(self, timestep: Tensor, pooled: Tensor) -> Tensor:
        return self.timestep_embedder(sinusoid(timestep, 256)) + self.text_embedder(pooled)


class CentredPatchEmbed(nn.Module):
    """Patches with the middle of a position table larger than the sample."""

    def __init__(self, channels: int, patch: int, side: int, width: int):
        super().__init__()
        self.side = side
        self.proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        self.register_buffer("pos_embed", torch.randn(1, side * side, width))

    def forward(self, image: Tensor) -> Tensor:
        patches = self.proj(image)
        rows, columns = patches.shape[2:]
        top, left = (self.side - rows) // 2, (self.side - columns) // 2
        table = self.pos_embed.unflatten(1, (self.side, self.side))[:, top : top + rows, left : left + columns]
        return patches.flatten(2).transpose(1, 2) + table.flatten(1, 2)


class SD3(nn.Module):
    """Without dual attention."""

    def __init__(self, config: dict):
        super().__init__()
        heads, count = config["num_attention_heads"], config["num_layers"]
        width = heads * config["attention_head_dim"]
        self.patch = config["patch_size"]
        self.pos_embed = CentredPatchEmbed(config["in_channels"], self.patch, config["pos_embed_max_size"], width)
        self.time_text_embed = TimeTextEmbedding(config["pooled_projection_dim"], width)
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width)
        norm = config["qk_norm"] == "rms_norm"
        self.transformer_blocks = nn.ModuleList(
            JointBlock(width, heads, norm, text_first=False, text_out=i < count - 1) for i in range(count)
        )
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, self.patch * self.patch * config["out_channels"])

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, pooled_projections: Tensor, timestep: Tensor
    ) -> dict[str, Tensor]:
        x = self.pos_embed(hidden_states)
        conditioning = self.time_text_embed(timestep, pooled_projections)
        text = self.context_embedder(encoder_hidden_states)
        for block in self.transformer_blocks:
            x, text = block(x, text, conditioning)
        scale, shift = self.norm_out(conditioning)
        rows, columns = (n // self.patch for n in hidden_states.shape[2:])
        return {"sample": unpatchify(self.proj_out(modulate(x, shift, scale)), rows, columns, self.patch)}


class SingleAttention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k = RMSNorm(width // heads), RMSNorm(width // heads)

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = (heads_of(to(x), self.heads) for to in (self.to_q, self.to_k, self.to_v))
        return attend(rotate(self.norm_q(q), tables), rotate(self.norm_k(k), tables), v)


class SingleBlock(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm = Modulation(width, 3)
        self.attn = SingleAttention(width, heads)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)

    def forward(self, x: Tensor, conditioning: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
        shift, scale, gate = self.norm(conditioning)
        normed = modulate(x, shift, scale)
        mlp = F.gelu(self.proj_mlp(normed), approximate="tanh")
        return x + gate * self.proj_out(torch.cat([self.attn(normed, tables), mlp], dim=2))


class Flux(nn.Module):
    """Without guidance embedding. Positions [T, axes] are those of every sample; with a batch axis, the first sample's count for all."""

    def __init__(self, config: dict):
        super().__init__()
        heads = config["num_attention_heads"]
        width = heads * config["attention_head_dim"]
        self.axes = config["axes_dims_rope"]
        self.x_embedder = nn.Linear(config["in_channels"], width)
        self.time_text_embed = TimeTextEmbedding(config["pooled_projection_dim"], width)
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width)
        self.transformer_blocks = nn.ModuleList(
            JointBlock(width, heads, qk_norm=True, text_first=True, text_out=True) for _ in range(config["num_layers"])
        )
        self.single_transformer_blocks = nn.ModuleList(SingleBlock(width, heads) for _ in range(config["num_single_layers"]))
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, config["out_channels"] or config["in_channels"])

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        pooled_projections: Tensor,
        timestep: Tensor,
        img_ids: Tensor,
        txt_ids: Tensor,
    ) -> dict[str, Tensor]:
        ids = torch.cat([txt_ids, img_ids], dim=-2)
        tables = rotary_tables(ids if ids.ndim == 2 else ids[0], self.axes)
        x = self.x_embedder(hidden_states)
        conditioning = self.time_text_embed(timestep * 1000, pooled_projections)
        text = self.context_embedder(encoder_hidden_states)
        for block in self.transformer_blocks:
            x, text = block(x, text, conditioning, tables)
        joined = torch.cat([text, x], dim=1)
        for block in self.single_transformer_blocks:
            joined = block(joined, conditioning, tables)
        scale, shift = self.norm_out(conditioning)
        return {"sample": self.proj_out(modulate(joined[:, text.shape[1] :], shift, scale))}
