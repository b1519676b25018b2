"""Times training steps of a DiT in PyTorch on request, so that a bench can take turns with it within one run.

    python train_step.py --mode eager|compile [--optimizer best|default|fused]

Reads one JSON object a line from stdin, answers one a line on stdout ({"error": ...} where a command fails):

    {"cmd": "setup", "batch": 8, "tokens": 256, "width": 384, "heads": 6, "layers": 6}   also "patch" (2), "in_channels" (4),
        "classes" (10), "threads" (1)  ->  {"parameters": n, "optimizer": "default" or "fused", "sample_size": n}
    {"cmd": "time", "repeat": n}  ->  {"ms": [...], "loss": of the last step}
    {"cmd": "gemm"}               ->  {"gflops": {"MxKxN": rate}}: 1024^3, and the model's own products after a setup
    {"cmd": "quit"}

A step is zero_grad, forward, mean squared error, backward and AdamW, on one batch that stays the same. In mode compile the
forward and the backward are compiled, with fixed shapes. `best`, the default, times both forms of torch.optim.AdamW at setup
and keeps the faster.
"""

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from dit import DiT


def milliseconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return (time.perf_counter() - start) * 1000


def optimizer_of(form: str, model: DiT) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True if form == "fused" else None)


class Trainer:
    def __init__(self, compiled: bool, form: str, setup: dict[str, int]):
        torch.manual_seed(0)
        patch, channels, classes = setup.get("patch", 2), setup.get("in_channels", 4), setup.get("classes", 10)
        grid = math.isqrt(setup["tokens"])
        if grid * grid != setup["tokens"] or setup["width"] % setup["heads"] != 0:
            raise ValueError(f"setup: tokens must be a square and width a multiple of heads, found {setup}")
        self.model = DiT(
            num_attention_heads=setup["heads"],
            attention_head_dim=setup["width"] // setup["heads"],
            num_layers=setup["layers"],
            in_channels=channels,
            patch_size=patch,
            sample_size=grid * patch,
            num_embeds_ada_norm=classes,
        )
        self.forward = torch.compile(self.model, dynamic=False) if compiled else self.model
        image = (setup["batch"], channels, grid * patch, grid * patch)
        self.input, self.target = torch.randn(image), torch.randn(image)
        self.timestep = torch.rand(setup["batch"]) * 1000
        self.label = torch.randint(classes, (setup["batch"],))
        rows, width = setup["batch"] * setup["tokens"], setup["width"]
        self.products = [(rows, width, width), (rows, width, 4 * width), (rows, 4 * width, width), (width, rows, 4 * width)]

        self.optimizer = optimizer_of(form, self.model)
        self.form = form
        for _ in range(3):  # the first steps compile, allocate and fill the optimizer's moments
            self.step()
        if form == "best":
            self.form = self.fastest_optimizer()

    def fastest_optimizer(self) -> str:
        forms = {form: optimizer_of(form, self.model) for form in ("default", "fused")}
        for optimizer in forms.values():
            optimizer.step()
        spent: dict[str, list[float]] = {form: [] for form in forms}
        for _ in range(5):
            for form, optimizer in forms.items():
                spent[form].append(milliseconds(optimizer.step))
        best = min(spent, key=lambda form: statistics.median(spent[form]))
        self.optimizer = forms[best]
        return best

    def step(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        loss = F.mse_loss(self.forward(self.input, self.timestep, self.label), self.target)
        loss.backward()
        self.optimizer.step()
        return loss


def gemm_rate(m: int, k: int, n: int) -> float:
    """GFLOP/s of a float32 product into memory already allocated; the best of at least five and half a second."""
    a, b, c = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    spent = [milliseconds(lambda: torch.mm(a, b, out=c))]
    while len(spent) < 5 or sum(spent) < 500:
        spent.append(milliseconds(lambda: torch.mm(a, b, out=c)))
    return 2 * m * k * n / min(spent) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", choices=["eager", "compile"], default="eager")
    parser.add_argument("--optimizer", choices=["best", "default", "fused"], default="best")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trainer: Trainer | None = None

    def answer(request: dict) -> dict:
        nonlocal trainer
        match request.get("cmd"):
            case "setup":
                torch.set_num_threads(request.get("threads", 1))
                trainer = None  # give its memory back before the next one asks for more
                trainer = Trainer(options.mode == "compile", options.optimizer, request)
                parameters = sum(p.numel() for p in trainer.model.parameters())
                return {"parameters": parameters, "optimizer": trainer.form, "sample_size": trainer.model.sample_size}
            case "time" if trainer is not None:
                spent, loss = [], 0.0
                for _ in range(request.get("repeat", 1)):
                    start = time.perf_counter()
                    value = trainer.step()
                    spent.append((time.perf_counter() - start) * 1000)
                    loss = value.item()
                return {"ms": spent, "loss": loss}
            case "gemm":
                products = [(1024, 1024, 1024), *(trainer.products if trainer is not None else [])]
                return {"gflops": {f"{m}x{k}x{n}": gemm_rate(m, k, n) for m, k, n in products}}
            case command:
                raise ValueError(f"expected setup, then time; or gemm, or quit; found {command}")

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
