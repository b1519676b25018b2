"""Trains a DiT on recorded batches, so that another engine's losses can be compared step by step.

    python exactness.py DIR

DIR/config.json          config of the DiT, as diffusers writes it
DIR/weights.safetensors  initial parameters
DIR/train.json           {"lrs": [one per step], "betas": [b1, b2], "eps", "weight_decay", "max_grad_norm": number or null,
                          "microbatch": samples per accumulation, optional}
DIR/batches.safetensors  for step k: `k.x0`, `k.noise` [B, C, H, W]; `k.timestep`, `k.a`, `k.s`, `k.cx`, `k.cn`, `k.weight` [B];
                         `k.label` int64 [B], already dropped where it is to be

The network sees a x0 + s noise and should say cx x0 + cn noise. Loss: mean over the batch of weight * mean squared error, over
the first `in_channels` channels where the network also gives a variance. Gradients are clipped by their global norm; AdamW decays
every parameter.

Writes DIR/final.safetensors and prints one JSON line {"losses", "grad_norms" (before clipping), "final"}, where final is the
Euclidean norm of all parameters at the end. float32 throughout; the environment variable THREADS sets the threads (default 1).
"""

import json
import os
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dit import DiT, load_config


def loss_of(model: DiT, batch: dict[str, Tensor]) -> Tensor:
    a, s, cx, cn = (batch[key].reshape(-1, 1, 1, 1) for key in ("a", "s", "cx", "cn"))
    x0, noise = batch["x0"], batch["noise"]
    prediction = model(a * x0 + s * noise, batch["timestep"], batch["label"])[:, : model.in_channels]
    error = (prediction - (cx * x0 + cn * noise)).square().mean(dim=(1, 2, 3))
    return (batch["weight"] * error).mean()


def global_norm(tensors: list[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t) for t in tensors]))


def main(folder: Path) -> None:
    torch.set_num_threads(int(os.environ.get("THREADS", "1")))
    train = json.loads((folder / "train.json").read_text())
    model = load_config(folder / "config.json")
    model.load_state_dict(load_file(folder / "weights.safetensors"))
    batches = load_file(folder / "batches.safetensors")
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        parameters, betas=tuple(train["betas"]), eps=train["eps"], weight_decay=train["weight_decay"]
    )

    losses, grad_norms = [], []
    for step, lr in enumerate(train["lrs"]):
        batch = {key.split(".", 1)[1]: value for key, value in batches.items() if key.startswith(f"{step}.")}
        samples = batch["x0"].shape[0]
        size = train.get("microbatch") or samples
        optimizer.zero_grad()
        total = 0.0
        for start in range(0, samples, size):
            part = {key: value[start : start + size] for key, value in batch.items()}
            # A part's mean counts by its share of the batch, so that the last part may be smaller.
            loss = loss_of(model, part) * (part["x0"].shape[0] / samples)
            loss.backward()
            total += loss.item()
        grad_norm = global_norm([p.grad for p in parameters if p.grad is not None])
        if train.get("max_grad_norm") is not None:
            torch.nn.utils.clip_grad_norm_(parameters, train["max_grad_norm"])
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        losses.append(total)
        grad_norms.append(grad_norm.item())

    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / "final.safetensors")
    final = global_norm([p.detach() for p in parameters]).item()
    print(json.dumps({"losses": losses, "grad_norms": grad_norms, "final": final}))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
