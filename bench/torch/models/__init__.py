"""The models of the bench `models` in plain PyTorch, by the names of the folders in test/fixtures.

Each is a class that takes config.json as a dict, has the parameter names of diffusers or transformers, and whose `forward` takes the inputs
by name and gives the outputs by name.
"""

from collections.abc import Callable

from torch import Tensor, nn

from dit import DiT

from .text import CLIPText, T5Encoder
from .transformers import Flux, PixArt, SD3
from .unet import ControlNet, UNet
from .vae import AutoencoderKL, VAEDecoder, VAEEncoder


class NamedDiT(DiT):
    """`DiT` with its inputs and output by name."""

    def __init__(self, config: dict):
        super().__init__(**config)

    def forward(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> dict[str, Tensor]:
        return {"sample": super().forward(hidden_states, timestep, class_labels)}


MODELS: dict[str, Callable[[dict], nn.Module]] = {
    "unet-sd": UNet,
    "unet-sdxl": UNet,
    "unet-ddpm": UNet,
    "controlnet": ControlNet,
    "vae-kl": AutoencoderKL,
    "vae-encoder": VAEEncoder,
    "vae-decoder": VAEDecoder,
    "dit": NamedDiT,
    "pixart": PixArt,
    "sd3": SD3,
    "flux": Flux,
    "clip-text": CLIPText,
    "t5-encoder": T5Encoder,
}
