"""UNet2DModel, UNet2DConditionModel and ControlNetModel: diffusers' models by names, config and arithmetic."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import Attention, TwoLinears, sinusoid


class ResnetBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int, eps: float, emb: int | None):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inputs, eps)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time_emb_proj = None if emb is None else nn.Linear(emb, outputs)
        self.norm2 = nn.GroupNorm(groups, outputs, eps)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        if self.time_emb_proj is not None and emb is not None:
            h = h + self.time_emb_proj(F.silu(emb))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class SpatialAttention(Attention):
    """Attention between the positions of a feature map, with a group norm before and the residual around it."""

    def __init__(self, channels: int, head_dim: int | None, groups: int, eps: float):
        super().__init__(channels, channels // (head_dim or channels), bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, eps)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        tokens = self.group_norm(x).flatten(2).transpose(1, 2)
        return x + super().forward(tokens).transpose(1, 2).unflatten(2, x.shape[2:])


class GEGLU(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        hidden, gate = self.proj(x).chunk(2, dim=-1)
        return hidden * F.gelu(gate)


class GatedFeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.Sequential(GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, context: int):
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.attn1 = Attention(width, heads, bias=False)
        self.attn2 = Attention(width, heads, bias=False, context=context)
        self.ff = GatedFeedForward(width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer2D(nn.Module):
    def __init__(self, channels: int, heads: int, depth: int, context: int, groups: int, linear: bool):
        super().__init__()
        self.linear = linear
        self.norm = nn.GroupNorm(groups, channels, 1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(TransformerBlock(channels, heads, context) for _ in range(depth))
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm(x)
        tokens = self.proj_in(h.flatten(2).transpose(1, 2)) if self.linear else self.proj_in(h).flatten(2).transpose(1, 2)
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        if self.linear:
            return x + self.proj_out(tokens).transpose(1, 2).unflatten(2, x.shape[2:])
        return x + self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]))


class Downsample(nn.Module):
    def __init__(self, channels: int, padding: int = 1):
        super().__init__()
        self.padding = padding
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        # Without padding, one row and one column at the end stand for it.
        return self.conv(x if self.padding else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Plan:
    """The options that are the same in all blocks of a model, and what attention block `i` (from the top) of a type has."""

    def __init__(self, config: dict):
        self.config = config
        self.channels: list[int] = config["block_out_channels"]
        self.groups, self.eps = config["norm_num_groups"], config["norm_eps"]
        self.emb = 4 * self.channels[0]

    def each(self, option: str, i: int) -> int:
        value = self.config[option]
        return value[i] if isinstance(value, list) else value

    def resnet(self, inputs: int, outputs: int) -> ResnetBlock:
        return ResnetBlock(inputs, outputs, self.groups, self.eps, self.emb)

    def attention(self, kind: str, i: int) -> nn.Module | None:
        heads, channels = self.each("attention_head_dim", i), self.channels[i]
        if "CrossAttn" in kind:
            depth = self.each("transformer_layers_per_block", i)
            linear = self.config["use_linear_projection"]
            return Transformer2D(channels, heads, depth, self.config["cross_attention_dim"], self.groups, linear)
        return SpatialAttention(channels, heads, self.groups, self.eps) if "Attn" in kind else None


class Block(nn.Module):
    """Residual blocks, each with its attention if the type has one, and a resampling at the end of all but the last block."""

    def __init__(self, plan: Plan, kind: str, i: int, inputs: list[int]):
        super().__init__()
        self.resnets = nn.ModuleList(plan.resnet(n, plan.channels[i]) for n in inputs)
        attentions = [plan.attention(kind, i) for _ in inputs]
        self.attentions = nn.ModuleList(a for a in attentions if a is not None) if attentions[0] is not None else None

    def step(self, j: int, x: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        x = self.resnets[j](x, emb)
        return x if self.attentions is None else self.attentions[j](x, context)


class DownBlock(Block):
    def __init__(self, plan: Plan, kind: str, i: int):
        channels = plan.channels[i]
        count = plan.each("layers_per_block", i)
        super().__init__(plan, kind, i, [plan.channels[max(i - 1, 0)]] + [channels] * (count - 1))
        last = i == len(plan.channels) - 1
        self.downsamplers = None if last else nn.ModuleList([Downsample(channels, plan.config["downsample_padding"])])

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None, skips: list[Tensor]) -> Tensor:
        for j in range(len(self.resnets)):
            x = self.step(j, x, emb, context)
            skips.append(x)
        if self.downsamplers is not None:
            x = self.downsamplers[0](x)
            skips.append(x)
        return x


class MidBlock(nn.Module):
    def __init__(self, plan: Plan):
        super().__init__()
        width = plan.channels[-1]
        self.resnets = nn.ModuleList(plan.resnet(width, width) for _ in range(2))
        self.attentions = nn.ModuleList(
            [plan.attention("Attn" if plan.config["mid_block_type"] == "UNetMidBlock2D" else "CrossAttn", len(plan.channels) - 1)]
        )

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, emb), context), emb)


class UpBlock(Block):
    def __init__(self, plan: Plan, kind: str, i: int):
        channels = plan.channels[i]
        count = plan.each("layers_per_block", i) + 1
        below, above = plan.channels[min(i + 1, len(plan.channels) - 1)], plan.channels[max(i - 1, 0)]
        kept = [channels] * (count - 1) + [above]
        super().__init__(plan, kind, i, [(below if j == 0 else channels) + skip for j, skip in enumerate(kept)])
        self.upsamplers = None if i == 0 else nn.ModuleList([Upsample(channels)])

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None, skips: list[Tensor]) -> Tensor:
        for j in range(len(self.resnets)):
            x = self.step(j, torch.cat([x, skips.pop()], dim=1), emb, context)
        return x if self.upsamplers is None else self.upsamplers[0](x)


class Encoder(nn.Module):
    """Time embedding, `conv_in`, the way down and the middle: what U-Net and ControlNet share."""

    def __init__(self, config: dict):
        super().__init__()
        self.plan = plan = Plan(config)
        self.flip, self.shift = config["flip_sin_to_cos"], config["freq_shift"]
        self.conv_in = nn.Conv2d(config["in_channels"], plan.channels[0], 3, padding=1)
        self.time_embedding = TwoLinears(plan.channels[0], plan.emb)
        self.ids = config.get("addition_time_embed_dim")
        if config.get("addition_embed_type") == "text_time":
            self.add_embedding = TwoLinears(config["projection_class_embeddings_input_dim"], plan.emb)
        self.down_blocks = nn.ModuleList(DownBlock(plan, kind, i) for i, kind in enumerate(config["down_block_types"]))
        self.mid_block = MidBlock(plan)

    def embed(self, timestep: Tensor, text_embeds: Tensor | None = None, time_ids: Tensor | None = None) -> Tensor:
        emb = self.time_embedding(sinusoid(timestep, self.plan.channels[0], self.flip, self.shift))
        if text_embeds is None or time_ids is None:
            return emb
        sizes = sinusoid(time_ids.flatten(), self.ids, self.flip, self.shift).view(len(time_ids), -1)
        return emb + self.add_embedding(torch.cat([text_embeds, sizes], dim=-1))

    def encode(self, x: Tensor, emb: Tensor, context: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        skips = [x]
        for block in self.down_blocks:
            x = block(x, emb, context, skips)
        return self.mid_block(x, emb, context), skips


class UNet(Encoder):
    def __init__(self, config: dict):
        super().__init__(config)
        plan, types = self.plan, config["up_block_types"]
        self.up_blocks = nn.ModuleList(UpBlock(plan, kind, len(types) - 1 - i) for i, kind in enumerate(types))
        self.conv_norm_out = nn.GroupNorm(plan.groups, plan.channels[0], plan.eps)
        self.conv_out = nn.Conv2d(plan.channels[0], config["out_channels"], 3, padding=1)

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor | None = None, **added: Tensor
    ) -> dict[str, Tensor]:
        emb = self.embed(timestep, **added)
        x, skips = self.encode(self.conv_in(sample), emb, encoder_hidden_states)
        for block in self.up_blocks:
            x = block(x, emb, encoder_hidden_states, skips)
        return {"sample": self.conv_out(F.silu(self.conv_norm_out(x)))}


class ConditionEmbedding(nn.Module):
    def __init__(self, inputs: int, widths: list[int], outputs: int):
        super().__init__()
        self.conv_in = nn.Conv2d(inputs, widths[0], 3, padding=1)
        blocks = []
        for narrow, wide in zip(widths, widths[1:], strict=False):
            blocks += [nn.Conv2d(narrow, narrow, 3, padding=1), nn.Conv2d(narrow, wide, 3, padding=1, stride=2)]
        self.blocks = nn.ModuleList(blocks)
        self.conv_out = nn.Conv2d(widths[-1], outputs, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        x = F.silu(self.conv_in(image))
        for block in self.blocks:
            x = F.silu(block(x))
        return self.conv_out(x)


class ControlNet(Encoder):
    def __init__(self, config: dict):
        super().__init__(config)
        channels = self.plan.channels
        self.controlnet_cond_embedding = ConditionEmbedding(
            config["conditioning_channels"], config["conditioning_embedding_out_channels"], channels[0]
        )
        widths = [channels[0]]
        for i, width in enumerate(channels):
            widths += [width] * (self.plan.each("layers_per_block", i) + (i < len(channels) - 1))
        self.controlnet_down_blocks = nn.ModuleList(nn.Conv2d(n, n, 1) for n in widths)
        self.controlnet_mid_block = nn.Conv2d(channels[-1], channels[-1], 1)

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, controlnet_cond: Tensor
    ) -> dict[str, Tensor]:
        x = self.conv_in(sample) + self.controlnet_cond_embedding(controlnet_cond)
        x, skips = self.encode(x, self.embed(timestep), encoder_hidden_states)
        residuals = [conv(skip) for conv, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        named = {f"down_block_additional_residual_{i}": residual for i, residual in enumerate(residuals)}
        return named | {"mid_block_additional_residual": self.controlnet_mid_block(x)}
