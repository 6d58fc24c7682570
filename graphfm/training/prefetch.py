"""Make the batches of the next step while this one runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")  # what a step needs: dataclasses and tuples of them, with tensors in them


def ahead(
    make: Callable[[int], Made], steps: range, device: torch.device
) -> Generator[Made, None, None]:
    """``make(step)`` for every step, each made in a thread while the one before is used.

    The same batches in the same order, one step ahead and never more. An error of ``make`` comes
    out at its own step; whoever leaves the loop, by ``break`` or by an error, waits for the step
    in hand and leaves no thread behind. On CUDA the thread has a stream of its own: what a batch
    waits for holds up neither the step that runs nor the thread that feeds it.

    Args:
        make: Draws nothing from torch's own generators, which belong to the step that runs.
        steps: In the order wanted.
        device: Where the batches lie.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def made(step: int) -> tuple[Made, torch.cuda.Event | None]:
        if stream is None:
            return make(step), None
        with torch.cuda.stream(stream):
            batches = make(step)
            return batches, stream.record_event()

    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))  # the graphs may be on their way
    left = iter(steps)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        coming = [thread.submit(made, step) for step in islice(left, 1)]
        while coming:
            batches, done = coming.pop().result()
            coming = [thread.submit(made, step) for step in islice(left, 1)]
            if done is not None:
                _take_over(batches, done, torch.cuda.current_stream(device))
            yield batches


def _take_over(made: object, done: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
    """The step's stream waits for what was made, and its memory lives until the step is through."""
    stream.wait_event(done)
    for tensor in _tensors(made):
        tensor.record_stream(stream)


def _tensors(value: object) -> Iterator[Tensor]:
    """All tensors in dataclasses and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
