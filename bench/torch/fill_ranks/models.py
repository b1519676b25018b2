"""The trained models as layers, in the order in which diffusionpipe lays them, so that a cut means the same on both sides."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.blocks import modulate, unpatchify
from models.transformers import PixArt
from models.unet import ControlNet, UNet
from models.unet import Encoder as UNetEncoder

from .chain import Function, Layer


class PixArtOut(nn.Module):
    def __init__(self, model: PixArt):
        super().__init__()
        self.grid, self.patch = model.grid, model.patch
        self.scale_shift_table, self.proj_out = model.scale_shift_table, model.proj_out

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
        return unpatchify(self.proj_out(modulate(x, shift, scale)), self.grid, self.grid, self.patch)


def pixart_layers(model: PixArt) -> list[Layer]:
    """hidden_states, encoder_hidden_states and timestep to sample."""
    blocks = [
        Layer(f"transformer_blocks.{i}", ["hidden", "text", "modulation"], ["hidden"], block)
        for i, block in enumerate(model.transformer_blocks)
    ]
    return [
        Layer("pos_embed", ["hidden_states"], ["hidden"], model.pos_embed),
        Layer("adaln_single", ["timestep"], ["modulation", "embedded"], model.adaln_single),
        Layer("caption_projection", ["encoder_hidden_states"], ["text"], model.caption_projection),
        *blocks,
        Layer("proj_out", ["hidden", "embedded"], ["sample"], PixArtOut(model)),
    ]


class TimeEmbedding(nn.Module):
    def __init__(self, model: UNetEncoder):
        super().__init__()
        if model.ids is not None:
            raise ValueError("a U-Net with size conditions cannot be trained here")
        self.time_embedding = model.time_embedding
        self.embed = model.embed

    def forward(self, timestep: Tensor) -> Tensor:
        return self.embed(timestep)


class ConditionedInput(nn.Module):
    def __init__(self, conv: nn.Module):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.conv(x) + condition


def encoder_layers(model: UNetEncoder, at: str, prefix: str) -> list[Layer]:
    """Down and middle, from value `at` with `prefix`emb: each map that is kept is `prefix`skip.i, the last one `prefix`hidden."""
    emb, hidden = f"{prefix}emb", f"{prefix}hidden"
    layers: list[Layer] = []
    kept = 1

    def lay(name: str, module: nn.Module, more: list[str], keep: bool) -> None:
        nonlocal at, kept
        to = f"{prefix}skip.{kept}" if keep else hidden
        layers.append(Layer(f"{prefix}{name}", [at, *more], [to], module))
        at, kept = to, kept + keep

    for i, block in enumerate(model.down_blocks):
        for j, resnet in enumerate(block.resnets):
            lay(f"down_blocks.{i}.resnets.{j}", resnet, [emb], block.attentions is None)
            if block.attentions is not None:
                lay(f"down_blocks.{i}.attentions.{j}", block.attentions[j], ["encoder_hidden_states"], True)
        if block.downsamplers is not None:
            lay(f"down_blocks.{i}.downsamplers.0", block.downsamplers[0], [], True)
    lay("mid_block.resnets.0", model.mid_block.resnets[0], [emb], False)
    lay("mid_block.attentions.0", model.mid_block.attentions[0], ["encoder_hidden_states"], False)
    lay("mid_block.resnets.1", model.mid_block.resnets[1], [emb], False)
    return layers


def locked_encoder_layers(unet: UNet) -> list[Layer]:
    """hidden_states, encoder_hidden_states and timestep to unet.emb, unet.skip.i and unet.hidden."""
    return [
        Layer("unet.time_embedding", ["timestep"], ["unet.emb"], TimeEmbedding(unet)),
        Layer("unet.conv_in", ["hidden_states"], ["unet.skip.0"], unet.conv_in),
        *encoder_layers(unet, "unet.skip.0", "unet."),
    ]


def controlnet_layers(model: ControlNet) -> list[Layer]:
    """hidden_states, encoder_hidden_states, timestep and controlnet_cond to residual.i and residual.mid."""
    residuals = [
        Layer(f"controlnet_down_blocks.{i}", [f"skip.{i}"], [f"residual.{i}"], conv)
        for i, conv in enumerate(model.controlnet_down_blocks)
    ]
    return [
        Layer("time_embedding", ["timestep"], ["emb"], TimeEmbedding(model)),
        Layer("controlnet_cond_embedding", ["controlnet_cond"], ["condition"], model.controlnet_cond_embedding),
        Layer("conv_in", ["hidden_states", "condition"], ["skip.0"], ConditionedInput(model.conv_in)),
        *encoder_layers(model, "skip.0", ""),
        *residuals,
        Layer("controlnet_mid_block", ["hidden"], ["residual.mid"], model.controlnet_mid_block),
    ]


class JoinedResnet(nn.Module):
    """A residual block of the way up, on the map and a skip with its control residual."""

    def __init__(self, resnet: nn.Module):
        super().__init__()
        self.resnet = resnet

    def forward(self, x: Tensor, skip: Tensor, residual: Tensor, emb: Tensor) -> Tensor:
        return self.resnet(torch.cat([x, skip + residual], dim=1), emb)


def locked_decoder_layers(unet: UNet, skips: int) -> list[Layer]:
    """What the locked encoder and the ControlNet give, to sample. The weights take no gradients, the values between do."""
    hidden = "unet.hidden"
    layers = [Layer("unet.mid_block_additional_residual", [hidden, "residual.mid"], [hidden], Function(torch.add))]
    for i, block in enumerate(unet.up_blocks):
        for j, resnet in enumerate(block.resnets):
            skips -= 1
            reads = [hidden, f"unet.skip.{skips}", f"residual.{skips}", "unet.emb"]
            layers.append(Layer(f"unet.up_blocks.{i}.resnets.{j}", reads, [hidden], JoinedResnet(resnet)))
            if block.attentions is not None:
                reads = [hidden, "encoder_hidden_states"]
                layers.append(Layer(f"unet.up_blocks.{i}.attentions.{j}", reads, [hidden], block.attentions[j]))
        if block.upsamplers is not None:
            layers.append(Layer(f"unet.up_blocks.{i}.upsamplers.0", [hidden], [hidden], block.upsamplers[0]))
    out = nn.Sequential(unet.conv_norm_out, nn.SiLU(), unet.conv_out)
    layers.append(Layer("unet.conv_out", [hidden], ["sample"], out))
    for layer in layers:
        layer.requires_grad_(False)
    return layers


def noising(x0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """[B, C, H, W] twice, and [B] twice."""
    return x0 * signal[:, None, None, None] + noise * spread[:, None, None, None]


def sample_errors(sample: Tensor, x0: Tensor, noise: Tensor, target_x0: Tensor, target_noise: Tensor) -> Tensor:
    """[B]: mean squared errors, of the first channels where the model also gives a variance."""
    target = noising(x0, noise, target_x0, target_noise)
    return F.mse_loss(sample[:, : x0.shape[1]], target, reduction="none").mean(dim=(1, 2, 3))


def with_objective(layers: list[Layer]) -> list[Layer]:
    """The model between the noising of its sample and the error of each sample."""
    first = Layer("noising", ["x0", "noise", "signal", "spread"], ["hidden_states"], Function(noising))
    reads = ["sample", "x0", "noise", "target_x0", "target_noise"]
    return [first, *layers, Layer("loss", reads, ["errors"], Function(sample_errors))]
