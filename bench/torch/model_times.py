"""Times forward and backward of the models in models/ on request, so that a bench can take turns with it; checks them against reference numbers.

    python model_times.py FOLDER...   compares outputs and gradients with test/fixtures' folders, named as the models are
    python model_times.py             reads one JSON object a line from stdin, answers one a line on stdout:

    {"cmd": "check", "model": "unet-sd", "folder": path}  ->  {"worst": largest relative difference, "tensors": number compared}
    {"cmd": "setup", "model": "unet-sd", "config": {...}, "outputs": [names], "inputs": {name: {"dtype": "float32" or "int64",
        "shape": [...], "below": n}}}  ->  {"parameters": n}
    {"cmd": "time", "what": "forward" or "both"}  ->  {"ms": wall time, "cpu_ms": processor time}
    {"cmd": "quit"}

`both` is forward, the sum over the outputs of the mean squared error, and the gradients of all parameters; `forward` keeps nothing for gradients.
"""

import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from models import MODELS

# Names in the reference files where they are not the model's own.
INPUTS = {"image": "x"}
OUTPUTS = {"decoded": "sample", "mid": "mid_block_additional_residual"} | {
    f"down{i}": f"down_block_additional_residual_{i}" for i in range(12)
}
# The output that the reference loss is taken of.
MAIN = {"controlnet": "mid_block_additional_residual", "clip-text": "last_hidden_state", "t5-encoder": "last_hidden_state"}


def check(name: str, folder: Path) -> dict[str, float]:
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    model = MODELS[name](config)
    (weights,) = folder.glob("*model.safetensors")
    model.load_state_dict(load_file(weights))
    io = load_file(folder / "io.safetensors")
    given = {INPUTS.get(k[3:], k[3:]): v for k, v in io.items() if k.startswith("in.")}
    target = given.pop("target")
    if name == "flux" and not config["guidance_embeds"]:
        given.pop("guidance", None)
    found = model(**given)
    main = MAIN.get(name, "sample")
    loss = (found[main] - target).square().mean()
    loss.backward()
    pairs = [(loss.detach(), io["loss"])]
    for key, value in io.items():
        if key.startswith("out.") and key != "out.pooled":
            alias = OUTPUTS.get(key[4:], key[4:])
            pairs.append((found[alias if alias in found else main].detach(), value))
    for key, parameter in model.named_parameters():
        if f"grad.{key}" in io:
            pairs.append((parameter.grad, io[f"grad.{key}"]))
        elif parameter.grad is not None and parameter.grad.abs().max() > 1e-7:
            raise ValueError(f"{folder}: no reference gradient of {key}")
    # The floor is for the biases of keys: softmax does not see them, so their gradients are rounding alone.
    worst = max((a - b).norm().item() / max(b.norm().item(), 1e-4) for a, b in pairs)
    return {"worst": worst, "tensors": len(pairs)}


class Timed:
    def __init__(self, request: dict):
        torch.manual_seed(0)
        self.model: nn.Module = MODELS[request["model"]](request["config"])
        self.outputs: list[str] = request["outputs"]
        self.inputs = {name: self.random(**spec) for name, spec in request["inputs"].items()}
        self.targets = [torch.randn_like(found) for found in self.forward()]

    @staticmethod
    def random(dtype: str, shape: list[int], below: int = 2) -> Tensor:
        return torch.randint(below, shape) if dtype == "int64" else torch.randn(shape)

    def run(self) -> list[Tensor]:
        found = self.model(**self.inputs)
        return [found[name] for name in self.outputs]

    def forward(self) -> list[Tensor]:
        with torch.inference_mode():
            return self.run()

    def both(self) -> None:
        self.model.zero_grad()
        sum((found - target).square().mean() for found, target in zip(self.run(), self.targets, strict=True)).backward()

    def time(self, what: str) -> dict[str, float]:
        start, busy = time.perf_counter(), time.process_time()
        self.forward() if what == "forward" else self.both()
        return {"ms": (time.perf_counter() - start) * 1000, "cpu_ms": (time.process_time() - busy) * 1000}


def main() -> None:
    torch.set_num_threads(1)
    for folder in map(Path, sys.argv[1:]):
        result = check(folder.name, folder)
        print(f"{folder.name}: worst relative difference {result['worst']:.1e} of {result['tensors']} tensors")
    if len(sys.argv) > 1:
        return
    timed: Timed | None = None

    def answer(request: dict) -> dict:
        nonlocal timed
        match request.get("cmd"):
            case "check":
                return check(request["model"], Path(request["folder"]))
            case "setup":
                timed = None  # give its memory back before the next one asks for more
                timed = Timed(request)
                return {"parameters": sum(p.numel() for p in timed.model.parameters())}
            case "time" if timed is not None:
                return timed.time(request["what"])
            case command:
                raise ValueError(f"expected check, setup, then time; or quit; found {command}")

    for line in sys.stdin:
        request = json.loads(line)
        if request.get("cmd") == "quit":
            return
        try:
            reply = answer(request)
        except Exception as error:  # the bench should hear of it on the channel that it listens to
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
