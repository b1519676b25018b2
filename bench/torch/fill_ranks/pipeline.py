"""torch.distributed.pipelining: two stages under 1F1B, after the encoders have run on shares of the batch and what a stage reads was sent to it."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from .chain import Stage, compiled, outside
from .ddp import sizes
from .update import Update, chunked
from .workloads import Values, Workload


class PipelineTrainer:
    def __init__(self, workload: Workload, request: dict, rank: int, ranks: int):
        layers, cut = workload.layers, request["cut"]
        batch, micro = request["batch"], request["micro_batches"]
        if not 0 < cut < len(layers):
            raise ValueError(f"cut: expected 1 to {len(layers) - 1}, found {cut}")
        if batch % micro:
            raise ValueError(f"batch: expected a multiple of the {micro} micro-batches, found {batch}")
        self.rank, self.batch, self.encode, self.feeds = rank, batch, workload.encode, workload.feeds
        bounds = [0, cut, len(layers)]
        self.stage = Stage(layers, bounds[rank], bounds[rank + 1])
        if request.get("compile"):
            compiled(self.stage)
        # Of what encoders give: the values each stage reads, and the shape of all.
        self.likes: Values = self.encode({name: value[:1] for name, value in self.feeds.items()})
        self.wanted = [[name for name in self.likes if name in outside(layers, bounds[r], bounds[r + 1])] for r in range(ranks)]
        trained = [p for p in self.stage.parameters() if p.requires_grad]
        self.update = Update(trained, request["optimizer"], request["max_grad_norm"], True)
        self.schedule = Schedule1F1B(
            PipelineStage(self.stage, rank, ranks, torch.device("cpu")),
            n_microbatches=micro,
            loss_fn=lambda errors, weight: (errors * weight).sum() / batch,
            scale_grads=False,
        )
        # Samples that the first process encodes; the second has the others.
        self.forms = {"first_encodes": [batch // 2, batch, 0], "encode": sizes(batch // 2)}

    def step(self, form: dict) -> tuple[float, float]:
        """This process's part of the loss (all on the last stage), and the norm of all stages' gradients."""
        encoded = self.encoded(form["first_encodes"], form["encode"])
        given = {name: encoded[name] if name in encoded else self.feeds[name] for name in self.stage.given}
        self.update.zero()
        losses: list[Tensor] = []
        last = {"target": self.feeds["loss_weight"], "losses": losses} if self.rank == 1 else {}
        self.schedule.step(**given, **last, return_outputs=False)
        norm = self.update.step(form["optimizer"], form["clip"])
        return sum(loss.item() for loss in losses), norm

    def encoded(self, first: int, size: int) -> Values:
        """What this stage reads of the encoders' values, for the whole batch: its own share and what the other process sends."""
        shares = [(0, first), (first, self.batch)]
        (start, end), (other_start, other_end) = shares[self.rank], shares[1 - self.rank]
        values = {name: torch.empty(self.batch, *like.shape[1:]) for name, like in self.likes.items()}
        for at in range(start, end, size):
            to = min(at + size, end)
            for name, value in self.encode({name: feed[at:to] for name, feed in self.feeds.items()}).items():
                values[name][at:to] = value
        work = []
        if end > start:
            work += [dist.P2POp(dist.isend, values[name][start:end], 1 - self.rank) for name in self.wanted[1 - self.rank]]
        if other_end > other_start:
            work += [dist.P2POp(dist.irecv, values[name][other_start:other_end], 1 - self.rank) for name in self.wanted[self.rank]]
        for sent in dist.batch_isend_irecv(work) if work else []:
            sent.wait()
        return values
