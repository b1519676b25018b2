"""AutoencoderKL, and its halves on their own: diffusers' model by names, config and arithmetic."""

import torch.nn.functional as F
from torch import Tensor, nn

from .unet import Downsample, ResnetBlock, SpatialAttention, Upsample

EPS = 1e-6


class Level(nn.Module):
    """Residual blocks at one resolution, then a resampling if there is one."""

    def __init__(self, inputs: int, outputs: int, count: int, groups: int, down: bool = False, up: bool = False):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(inputs if j == 0 else outputs, outputs, groups, EPS, None) for j in range(count))
        self.downsamplers = nn.ModuleList([Downsample(outputs, 0)]) if down else None
        self.upsamplers = nn.ModuleList([Upsample(outputs)]) if up else None

    def forward(self, x: Tensor) -> Tensor:
        for resnet in self.resnets:
            x = resnet(x)
        for samplers in (self.downsamplers, self.upsamplers):
            if samplers is not None:
                x = samplers[0](x)
        return x


class Middle(nn.Module):
    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, groups, EPS, None) for _ in range(2))
        self.attentions = nn.ModuleList([SpatialAttention(channels, None, groups, EPS)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class Encoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        channels, groups, count = config["block_out_channels"], config["norm_num_groups"], config["layers_per_block"]
        self.conv_in = nn.Conv2d(config["in_channels"], channels[0], 3, padding=1)
        self.down_blocks = nn.ModuleList(
            Level(channels[max(i - 1, 0)], width, count, groups, down=i < len(channels) - 1) for i, width in enumerate(channels)
        )
        self.mid_block = Middle(channels[-1], groups)
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], EPS)
        self.conv_out = nn.Conv2d(channels[-1], 2 * config["latent_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        channels, groups = config["block_out_channels"][::-1], config["norm_num_groups"]
        count = config["layers_per_block"] + 1
        self.conv_in = nn.Conv2d(config["latent_channels"], channels[0], 3, padding=1)
        self.mid_block = Middle(channels[0], groups)
        self.up_blocks = nn.ModuleList(
            Level(channels[max(i - 1, 0)], width, count, groups, up=i < len(channels) - 1) for i, width in enumerate(channels)
        )
        self.conv_norm_out = nn.GroupNorm(groups, channels[-1], EPS)
        self.conv_out = nn.Conv2d(channels[-1], config["out_channels"], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class VAEEncoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.encoder = Encoder(config)
        self.quant_conv = nn.Conv2d(2 * config["latent_channels"], 2 * config["latent_channels"], 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return {"mean": mean, "logvar": logvar.clamp(-30, 20)}


class VAEDecoder(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.post_quant_conv = nn.Conv2d(config["latent_channels"], config["latent_channels"], 1)
        self.decoder = Decoder(config)

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        return {"sample": self.decoder(self.post_quant_conv(z))}


class AutoencoderKL(VAEEncoder):
    """The whole, decoding the mean; its parameters are those of both halves."""

    def __init__(self, config: dict):
        super().__init__(config)
        self.post_quant_conv = nn.Conv2d(config["latent_channels"], config["latent_channels"], 1)
        self.decoder = Decoder(config)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        moments = super().forward(x)
        return moments | {"sample": self.decoder(self.post_quant_conv(moments["mean"]))}
