"""Clipping and AdamW over the parameters that a process holds, in the forms PyTorch offers for them."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

FORMS = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


class Update:
    """`shared`: other processes hold other parameters, and the norm is of all of them."""

    def __init__(self, parameters: list[Tensor], options: dict, max_grad_norm: float, shared: bool):
        self.parameters, self.options, self.max_grad_norm, self.shared = parameters, options, max_grad_norm, shared
        self.first = [p.detach().clone() for p in parameters]
        self.optimizers: dict[str, torch.optim.AdamW] = {}

    def zero(self) -> None:
        for p in self.parameters:
            p.grad = None

    def step(self, optimizer: str, clip: str) -> float:
        """Returns the gradients' norm before clipping."""
        foreach = clip == "foreach"
        norm = get_total_norm([p.grad for p in self.parameters if p.grad is not None], foreach=foreach)
        if self.shared:
            squared = norm.square()
            dist.all_reduce(squared)
            norm = squared.sqrt()
        clip_grads_with_norm_(self.parameters, self.max_grad_norm, norm, foreach=foreach)
        if self.parameters:  # a stage may be all locked
            if optimizer not in self.optimizers:
                self.optimizers[optimizer] = torch.optim.AdamW(self.parameters, **self.options, **FORMS[optimizer])
            self.optimizers[optimizer].step()
        return norm.item()

    @torch.no_grad()
    def restart(self) -> None:
        """Back to the first weights, with no moments."""
        self.optimizers.clear()
        for p, value in zip(self.parameters, self.first, strict=True):
            p.copy_(value)


def chunked(values: dict[str, Tensor], size: int) -> list[dict[str, Tensor]]:
    """The batch in parts of `size` samples, the last one perhaps smaller."""
    names, parts = list(values), zip(*(value.split(size) for value in values.values()), strict=True)
    return [dict(zip(names, part, strict=True)) for part in parts]
