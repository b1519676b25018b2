"""A model as layers between named values, so that it can be cut anywhere: what a stage takes of the one before follows from the names."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ContiguousGradient(torch.autograd.Function):
    """A value as it is; its gradient as it has to be to be sent."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


class Function(nn.Module):
    """A function of tensors without parameters, as a module."""

    def __init__(self, run: Callable[..., Tensor]):
        super().__init__()
        self.run = run

    def forward(self, *values: Tensor) -> Tensor:
        return self.run(*values)


class Layer(nn.Module):
    """`module` from the values named `reads` to those named `writes`. A name written again stands for the newer value from then on."""

    def __init__(self, name: str, reads: list[str], writes: list[str], module: nn.Module):
        super().__init__()
        self.name, self.reads, self.writes, self.module = name, reads, writes, module

    def forward(self, live: dict[str, Tensor]) -> None:
        found = self.module(*(live[name] for name in self.reads))
        live.update(zip(self.writes, found if isinstance(found, tuple) else (found,), strict=True))


class Stage(nn.Module):
    """Layers [start, end) of a chain: values that earlier layers write come by position, those from outside (`given`) by name."""

    def __init__(self, layers: list[Layer], start: int, end: int):
        super().__init__()
        self.layers = nn.ModuleList(layers[start:end])
        self.received = crossing(layers, start)
        self.given = sorted(outside(layers, start, end))
        self.outputs = layers[-1].writes if end == len(layers) else crossing(layers, end)

    def forward(self, *received: Tensor, **given: Tensor) -> Tensor | tuple[Tensor, ...]:
        found = self.run(given | dict(zip(self.received, map(ContiguousGradient.apply, received), strict=True)))
        # What is sent has to be contiguous.
        found = tuple(value.contiguous() for value in found)
        return found if len(found) > 1 else found[0]

    def run(self, live: dict[str, Tensor]) -> list[Tensor]:
        live = dict(live)
        for layer in self.layers:
            layer(live)
        return [live[name] for name in self.outputs]


def compiled(stage: Stage) -> Stage:
    """In place and whole, but for what makes values contiguous, which a compiler may undo. Gradients are reduced after the backward pass."""
    torch._dynamo.config.optimize_ddp = False
    stage.run = torch.compile(stage.run, dynamic=False)
    return stage


def crossing(layers: list[Layer], cut: int) -> list[str]:
    """Names written before `cut` whose values are read after it."""
    wanted: set[str] = set()
    for layer in reversed(layers[cut:]):
        wanted = (wanted - set(layer.writes)) | set(layer.reads)
    written = dict.fromkeys(name for layer in layers[:cut] for name in layer.writes)
    return [name for name in written if name in wanted]


def outside(layers: list[Layer], start: int, end: int) -> set[str]:
    """Names that layers [start, end) read and no layer before them writes."""
    written = {name for layer in layers[:start] for name in layer.writes}
    read: set[str] = set()
    for layer in layers[start:end]:
        read |= set(layer.reads) - written
        written |= set(layer.writes)
    return read
