"""What is trained, under which frozen encoders, and on which numbers; all a function of the request and its seed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from models.text import CLIPText
from models.transformers import PixArt
from models.unet import ControlNet, UNet
from models.vae import VAEEncoder

from .chain import Layer
from .models import controlnet_layers, locked_decoder_layers, locked_encoder_layers, noising, pixart_layers, with_objective

Values = dict[str, Tensor]


@dataclass
class Workload:
    """`layers` from noising to the samples' errors; `encode` makes what frozen models give of a part of the batch; `feeds` are all of the batch."""

    layers: list[Layer]
    encode: Callable[[Values], Values]
    feeds: Values
    frozen: int


def open_workload(request: dict) -> Workload:
    """Of the setup request that fill.py describes."""
    torch.manual_seed(request.get("seed", 0))
    vae, scale, shift = open_vae(Path(request["vae"]))
    text, text_config = open_text(Path(request["text_encoder"]))
    weights = load_file(request["weights"]) if request.get("weights") else None
    match request["workload"]:
        case "sd":
            model = PixArt(request["model"])
            if weights is not None:
                model.load_state_dict(weights)
            layers, locked, control = pixart_layers(model), [], None
        case "controlnet":
            # Random weights everywhere: the usual zeros after the copy would leave it without gradients at first.
            unet, model = UNet(request["model"]["unet"]), ControlNet(request["model"]["control"])
            locked = locked_encoder_layers(unet)
            for layer in locked:
                layer.requires_grad_(False)
            layers = controlnet_layers(model) + locked_decoder_layers(unet, len(model.controlnet_down_blocks))
            control = request["model"]["control"]
        case name:
            raise ValueError(f"workload: expected sd or controlnet, found {name}")
    frozen: list[nn.Module] = [vae, text, *locked]

    @torch.no_grad()
    def encode(feeds: Values) -> Values:
        moments = vae(feeds["vae.x"])
        drawn = moments["mean"] + (0.5 * moments["logvar"]).exp() * feeds["vae.posterior"]
        live = feeds | {"x0": (drawn - shift) * scale}
        live["encoder_hidden_states"] = text(feeds["text_encoder.input_ids"])["last_hidden_state"]
        if locked:
            live["hidden_states"] = noising(live["x0"], feeds["noise"], feeds["signal"], feeds["spread"])
            for layer in locked:
                layer(live)
        return {name: value for name, value in live.items() if name not in feeds and name != "hidden_states"}

    feeds = load_file(request["feeds"]) if request.get("feeds") else random_feeds(request, vae, text_config, control)
    count = sum(p.numel() for module in frozen for p in module.parameters())
    compiled = torch.compile(encode, dynamic=False) if request.get("compile") else encode
    return Workload(with_objective(layers), compiled, feeds, count)


def open_vae(folder: Path) -> tuple[VAEEncoder, float, float]:
    config = json.loads((folder / "config.json").read_text())
    vae = VAEEncoder(config)
    saved = load_file(folder / "diffusion_pytorch_model.safetensors")
    vae.load_state_dict({name: value for name, value in saved.items() if name.startswith(("encoder.", "quant_conv."))})
    return vae.requires_grad_(False), config["scaling_factor"], config.get("shift_factor") or 0.0


def open_text(folder: Path) -> tuple[CLIPText, dict]:
    config = json.loads((folder / "config.json").read_text())
    text = CLIPText(config)
    saved = load_file(folder / "model.safetensors")
    text.load_state_dict({name.removeprefix("text_model."): value for name, value in saved.items() if name.startswith("text_model.")})
    return text.requires_grad_(False), config


def random_feeds(request: dict, vae: VAEEncoder, text: dict, control: dict | None) -> Values:
    """Numbers for a batch of 64 x 64 pictures; noise levels are of `ddim` or `flow`."""
    draw = torch.Generator().manual_seed(request.get("seed", 0) + 1)
    batch = request["batch"]
    pixels = torch.randn((batch, 3, 64, 64), generator=draw)
    latents = vae(pixels[:1])["mean"].shape[1:]
    level = torch.rand(batch, generator=draw)
    if request.get("noise") == "flow":
        levels = {"signal": 1 - level, "spread": level, "target_x0": -torch.ones(batch), "target_noise": torch.ones(batch)}
        timestep = level * 1000
    else:
        timestep = (level * 1000).floor()
        kept = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)[timestep.long()]
        levels = {"signal": kept.sqrt(), "spread": (1 - kept).sqrt(), "target_x0": torch.zeros(batch), "target_noise": torch.ones(batch)}
    feeds = {
        "vae.x": pixels,
        "vae.posterior": torch.randn((batch, *latents), generator=draw),
        "text_encoder.input_ids": torch.randint(text["vocab_size"], (batch, text["max_position_embeddings"]), generator=draw),
        "noise": torch.randn((batch, *latents), generator=draw),
        "timestep": timestep,
        "loss_weight": torch.ones(batch),
        **levels,
    }
    if control is None:
        return feeds
    # The picture is halved once for each width after the first, to the latents' size.
    scale = 2 ** (len(control["conditioning_embedding_out_channels"]) - 1)
    size = (batch, control["conditioning_channels"], latents[1] * scale, latents[2] * scale)
    return feeds | {"controlnet_cond": torch.rand(size, generator=draw)}
