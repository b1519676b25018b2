"""Trains a small class-conditional DiT on small images for a while: how fast does PyTorch learn at this shape?

    python learns.py IMAGES.safetensors [--seconds 15] [--steps 4000] [--threads 2] [--compile]

IMAGES.safetensors holds `images` uint8 [N, H, W] or [N, C, H, W] and `labels` [N]; the last 1024 images are held out.

96 wide, 4 blocks, 4 heads, patches of 4; flow matching with uniform times (x_t = (1 - t) x0 + t noise, target noise - x0, the
network is given 1000 t); labels dropped with probability 0.1; batches of 128; AdamW 1e-3 with 100 steps of warm-up and a cosine to
zero at --steps; gradients clipped to norm 1; EMA of decay min(0.999, (1 + step) / (10 + step)). Stops at --seconds or --steps,
whichever comes first. Prints one JSON line; held_out_loss is that of the EMA weights.
"""

import argparse
import copy
import json
import math
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from dit import DiT

BATCH, WARM_UP, HELD_OUT, CLASS_DROPOUT, DECAY, PATCH = 128, 100, 1024, 0.1, 0.999, 4


def load_images(path: str) -> tuple[Tensor, Tensor]:
    """Images as floats in [-1, 1], [N, C, S, S]: padded with black to a square of whole patches; labels as int64."""
    file = load_file(path)
    images = file["images"].float() / 127.5 - 1
    if images.ndim == 3:
        images = images.unsqueeze(1)
    height, width = images.shape[-2:]
    side = math.ceil(max(height, width) / PATCH) * PATCH
    left, top = (side - width) // 2, (side - height) // 2
    images = F.pad(images, (left, side - width - left, top, side - height - top), value=-1.0)
    return images, file["labels"].long()


def network(images: Tensor, classes: int) -> DiT:
    model = DiT(
        num_attention_heads=4,
        attention_head_dim=24,
        num_layers=4,
        in_channels=images.shape[1],
        patch_size=PATCH,
        sample_size=images.shape[-1],
        num_embeds_ada_norm=classes,
    )
    # adaLN-zero: every block starts as the identity, and the network's first answer is zero.
    for layer in [*(block.norm1.linear for block in model.transformer_blocks), model.proj_out_1, model.proj_out_2]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return model


def flow_loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    noise, t = torch.randn_like(images), torch.rand(len(images))
    share = t.reshape(-1, 1, 1, 1)
    return F.mse_loss(model(torch.lerp(images, noise, share), 1000 * t, labels), noise - images)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("images")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    images, labels = load_images(options.images)
    if len(images) < HELD_OUT + BATCH:
        raise ValueError(f"{options.images}: expected at least {HELD_OUT + BATCH} images, found {len(images)}")
    classes, training = int(labels.max()) + 1, len(images) - HELD_OUT
    model = network(images, classes)
    ema = copy.deepcopy(model).requires_grad_(False)
    forward = torch.compile(model, dynamic=False) if options.compile else model
    parameters, averages = list(model.parameters()), list(ema.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def rate(step: int) -> float:
        rest = max(options.steps - WARM_UP, 1)
        return min((step + 1) / WARM_UP, 0.5 + 0.5 * math.cos(math.pi * max(step - WARM_UP, 0) / rest))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)

    def train_step() -> float:
        picked = torch.randint(training, (BATCH,))
        dropped = torch.rand(BATCH) < CLASS_DROPOUT
        optimizer.zero_grad()
        loss = flow_loss(forward, images[picked], torch.where(dropped, classes, labels[picked]))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            # The decay grows with the steps taken: else a short run's average is still its random start.
            decay = min(DECAY, (1 + schedule.last_epoch) / (10 + schedule.last_epoch))
            torch._foreach_lerp_(averages, parameters, 1 - decay)
        return loss.item()

    losses = [train_step() for _ in range(3)]  # compiling and first allocations are not the rate asked for
    start = time.perf_counter()
    while len(losses) < options.steps and time.perf_counter() - start < options.seconds:
        losses.append(train_step())
    seconds = time.perf_counter() - start

    with torch.no_grad():
        torch.manual_seed(1)
        held_out = flow_loss(ema, images[training:], labels[training:]).item()
    recent = losses[-50:]
    print(
        json.dumps(
            {
                "images_per_second": (len(losses) - 3) * BATCH / seconds,
                "seconds": seconds,
                "steps": len(losses),
                "loss": sum(recent) / len(recent),
                "held_out_loss": held_out,
            }
        )
    )


if __name__ == "__main__":
    main()
