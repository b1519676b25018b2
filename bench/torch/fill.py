"""Trains a latent denoiser under frozen encoders on two processes of one thread each, encoders inline: what trainers without filling do.

    python fill.py

Reads one JSON object a line from stdin, answers one a line on stdout ({"error": ...} where a command fails):

    {"cmd": "setup", "mode": "ddp" or "pipelining", "workload": "sd" (a PixArt) or "controlnet", "model": config,
        for controlnet {"unet": config, "control": config}, "vae": folder, "text_encoder": folder, "batch": 16, "micro_batches": 4 and "cut": layer that
        the second stage begins with (pipelining)}
        also "noise" ("ddim" or "flow"), "seed" (0), "optimizer" (AdamW's lr, betas, eps, weight_decay), "max_grad_norm" (1),
        "form" (what to take instead of measuring), "trials" (steps per form that is measured, 3), "compile" (false),
        "weights" (safetensors of the trained PixArt) and "feeds" (safetensors of the batch, by the names in workloads.py)
        ->  {"parameters": trained, "frozen": n, "threads": [1, 1], "layers": [names], "pids": [...], "form": kept, "tried": {choice: {value: ms}}}
    {"cmd": "step"}   ->  {"ms": wall time around both processes, "loss": of the whole batch, "grad_norm": before clipping}
    {"cmd": "close"}  ends, as the end of stdin does

Whether a DDP step accumulates, who encodes how many samples at once in a pipeline, and which forms of AdamW and clipping are taken, is
measured at setup, one choice after the other, each on the real step; the fastest are kept and training starts anew. The batch stays the same.
"""

import importlib.util
import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import tempfile
import time
from pathlib import Path

from fill_ranks.rank import RANKS, run_rank


class Ranks:
    """The processes; `ask` sends all the same command and waits for all their answers."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ["OMP_NUM_THREADS"] = "1"
        context = multiprocessing.get_context("spawn")
        self.folder = tempfile.TemporaryDirectory()
        store = str(Path(self.folder.name) / "store")
        self.pipes, self.processes = [], []
        for rank in range(RANKS):
            ours, theirs = context.Pipe()
            process = context.Process(target=run_rank, args=(theirs, rank, store), daemon=True)
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)

    def ask(self, request: dict) -> list[dict]:
        for pipe in self.pipes:
            pipe.send(request)
        replies = []
        # A process that fails leaves the other one waiting for it, so whichever answers first is heard first.
        waiting = list(self.pipes)
        while waiting:
            for pipe in multiprocessing.connection.wait(waiting):
                try:
                    reply = pipe.recv()
                except EOFError:
                    raise RuntimeError(f"process {self.pipes.index(pipe)} ended") from None
                if "error" in reply:
                    raise RuntimeError(f"process {self.pipes.index(pipe)}: {reply['error']}")
                waiting.remove(pipe)
                replies.append((self.pipes.index(pipe), reply))
        return [reply for _, reply in sorted(replies, key=lambda entry: entry[0])]

    def close(self) -> None:
        for pipe in self.pipes:
            pipe.close()
        for process in self.processes:
            process.join(timeout=1)
            process.kill()
        self.folder.cleanup()


def step(ranks: Ranks, form: dict) -> dict:
    start = time.perf_counter()
    replies = ranks.ask({"cmd": "step", "form": form})
    ms = (time.perf_counter() - start) * 1000
    return {"ms": ms, "loss": sum(reply["loss"] for reply in replies), "grad_norm": replies[0]["grad_norm"]}


def fastest(ranks: Ranks, forms: dict[str, list], fixed: dict, trials: int) -> tuple[dict, dict]:
    """The form to keep, choice by choice with the others as they stand, and the least ms of every value tried."""
    form = {choice: values[0] for choice, values in forms.items()}
    step(ranks, form)
    form |= fixed
    tried: dict[str, dict] = {}
    for choice, values in forms.items():
        if choice in fixed or len(values) == 1:
            continue
        for value in values:  # the first step of a form allocates
            step(ranks, form | {choice: value})
        spent = {value: [] for value in values}
        for _ in range(trials):
            for value in values:
                spent[value].append(step(ranks, form | {choice: value})["ms"])
        tried[choice] = {value: round(min(ms), 3) for value, ms in spent.items()}
        form[choice] = min(values, key=lambda value: tried[choice][value])
    return form, tried


def main() -> None:
    missing = [name for name in ("torch", "safetensors", "numpy") if importlib.util.find_spec(name) is None]
    ranks: Ranks | None = None
    form: dict = {}

    def answer(request: dict) -> dict:
        nonlocal ranks, form
        if missing:
            raise RuntimeError(f"{sys.executable} has no {' and no '.join(missing)}; bench/torch/README.md says how to install them")
        match request.get("cmd"):
            case "setup":
                if ranks is not None:
                    ranks.close()
                ranks = Ranks()
                adamw = {"lr": 1e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01}
                defaults = {"optimizer": adamw | request.get("optimizer", {}), "max_grad_norm": request.get("max_grad_norm", 1.0)}
                replies = ranks.ask(request | defaults)
                form, tried = fastest(ranks, replies[0]["forms"], request.get("form", {}), request.get("trials", 3))
                ranks.ask({"cmd": "restart"})
                kept = {key: replies[0][key] for key in ("parameters", "frozen", "layers")}
                more = {"threads": [reply["threads"] for reply in replies], "pids": [process.pid for process in ranks.processes]}
                return kept | more | {"form": form, "tried": tried}
            case "step" if ranks is not None:
                return step(ranks, form)
            case command:
                raise ValueError(f"expected setup, then step; or close; found {command}")

    for line in sys.stdin:
        request = json.loads(line)
        if request.get("cmd") == "close":
            break
        try:
            reply = answer(request)
        except Exception as error:  # the bench should hear of it on the channel that it listens to
            if ranks is not None:  # they no longer know of each other where they are
                ranks.close()
                ranks = None
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)
    if ranks is not None:
        ranks.close()


if __name__ == "__main__":
    main()
