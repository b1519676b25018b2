"""One of the processes: it takes commands from a pipe, and has one thread."""

import os
from multiprocessing.connection import Connection

RANKS = 2


def run_rank(pipe: Connection, rank: int, store: str) -> None:
    """Answers `setup`, `step` and `restart` until the pipe closes. The same commands go to all ranks at once."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch
    import torch.distributed as dist

    from .ddp import DDPTrainer
    from .pipeline import PipelineTrainer
    from .workloads import open_workload

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    trainer: DDPTrainer | PipelineTrainer | None = None

    def answer(request: dict) -> dict:
        nonlocal trainer
        match request["cmd"]:
            case "setup":
                kinds = {"ddp": DDPTrainer, "pipelining": PipelineTrainer}
                if request["mode"] not in kinds:
                    raise ValueError(f"mode: expected {' or '.join(kinds)}, found {request['mode']}")
                workload = open_workload(request)
                trained = sum(p.numel() for layer in workload.layers for p in layer.parameters() if p.requires_grad)
                locked = sum(p.numel() for layer in workload.layers for p in layer.parameters() if not p.requires_grad)
                trainer = kinds[request["mode"]](workload, request, rank, RANKS)
                if request.get("compile"):  # every other size would be compiled anew
                    trainer.forms |= {choice: trainer.forms[choice][:1] for choice in ("accumulate", "encode") if choice in trainer.forms}
                return {
                    "threads": torch.get_num_threads(),
                    "parameters": trained,
                    "frozen": workload.frozen + locked,
                    "layers": [layer.name for layer in workload.layers],
                    "forms": trainer.forms | {"optimizer": ["fused", "foreach", "loop"], "clip": ["foreach", "loop"]},
                }
            case "step" if trainer is not None:
                loss, norm = trainer.step(request["form"])
                return {"loss": loss, "grad_norm": norm}
            case "restart" if trainer is not None:
                trainer.update.restart()
                return {}
            case command:
                raise ValueError(f"expected setup, then step or restart; found {command}")

    try:
        while True:
            request = pipe.recv()
            try:
                reply = answer(request)
            except Exception as error:  # the parent passes it on
                reply = {"error": f"{type(error).__name__}: {error}"}
            pipe.send(reply)
    except (EOFError, OSError):  # the parent is gone, or done with this process
        return
