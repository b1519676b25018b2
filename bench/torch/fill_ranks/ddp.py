"""DistributedDataParallel: each process encodes its half of the batch and trains the whole model on it."""

from contextlib import nullcontext

import torch
from torch.nn.parallel import DistributedDataParallel

from .chain import Stage, compiled
from .update import Update, chunked
from .workloads import Workload


class DDPTrainer:
    def __init__(self, workload: Workload, request: dict, rank: int, ranks: int):
        size = request["batch"] // ranks
        if size * ranks != request["batch"]:
            raise ValueError(f"batch: expected a multiple of {ranks}, found {request['batch']}")
        self.size, self.encode = size, workload.encode
        self.feeds = {name: value[rank * size : (rank + 1) * size] for name, value in workload.feeds.items()}
        self.stage = Stage(workload.layers, 0, len(workload.layers))
        if request.get("compile"):
            compiled(self.stage)
        self.model = DistributedDataParallel(self.stage, gradient_as_bucket_view=True, static_graph=True, forward_sync_buffers=False)
        self.update = Update([p for p in self.stage.parameters() if p.requires_grad], request["optimizer"], request["max_grad_norm"], False)
        # Accumulation needs the gradients' order from a first pass that is not accumulated, as the first form tried is.
        self.forms = {"accumulate": [n for n in (1, 2, 4, 8) if size % n == 0], "encode": sizes(size)}

    def step(self, form: dict) -> tuple[float, float]:
        """This process's share of the loss, and the gradients' norm."""
        values: dict[str, list[torch.Tensor]] = {}
        for part in chunked(self.feeds, form["encode"]):
            for name, value in self.encode(part).items():
                values.setdefault(name, []).append(value)
        encoded = {name: torch.cat(parts) for name, parts in values.items()}
        given = {name: (self.feeds | encoded)[name] for name in [*self.stage.given, "loss_weight"]}
        self.update.zero()
        loss = torch.zeros(())
        parts = chunked(given, self.size // form["accumulate"])
        for i, part in enumerate(parts):
            weight = part.pop("loss_weight")
            with nullcontext() if i == len(parts) - 1 else self.model.no_sync():
                share = (self.model(**part) * weight).sum() / self.size
                share.backward()
            loss += share.detach()
        norm = self.update.step(form["optimizer"], form["clip"])
        return loss.item() / torch.distributed.get_world_size(), norm


def sizes(most: int) -> list[int]:
    """How many samples go through the encoders at once: all, or few enough that their maps stay in the caches."""
    return [most, *(n for n in (8, 2) if n < most)]
