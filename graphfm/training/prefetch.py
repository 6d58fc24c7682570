"""Prefetching: make the batches of the next step while this one runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch
from torch import Tensor

Made = TypeVar("Made")  # batches of a step: dataclasses and tuples that hold tensors


def make_ahead(
    make: Callable[[int], Made], steps: range, device: torch.device
) -> Generator[Made, None, None]:
    """Yield ``make(step)`` for every step, each made in a thread during the step before.

    Order and content are those of a plain loop. At most one step is made ahead. An error in
    ``make`` is raised at its own step. Leaving the loop, by ``break`` or by an error, waits for the
    step in hand and ends the thread. On CUDA the thread has a stream of its own, so a batch that
    waits for a copy delays neither the running step nor its launches.

    Args:
        make: Function of the step's number. It must not use torch's global generators, which belong
            to the running step.
        steps: Step numbers in order.
        device: Device of the batches.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def make_on_stream(step: int) -> tuple[Made, torch.cuda.Event | None]:
        if stream is None:
            return make(step), None
        with torch.cuda.stream(stream):
            batches = make(step)
            return batches, stream.record_event()

    if stream is not None:
        stream.wait_stream(torch.cuda.current_stream(device))  # graphs may still be copied
    left = iter(steps)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as thread:
        coming = [thread.submit(make_on_stream, step) for step in islice(left, 1)]
        while coming:
            batches, done = coming.pop().result()
            coming = [thread.submit(make_on_stream, step) for step in islice(left, 1)]
            if done is not None:
                _hand_over(batches, done, torch.cuda.current_stream(device))
            yield batches


def _hand_over(made: object, done: torch.cuda.Event, stream: torch.cuda.Stream) -> None:
    """Let a stream wait for batches, and keep their memory until the stream has used them."""
    stream.wait_event(done)
    for tensor in _tensors(made):
        tensor.record_stream(stream)


def _tensors(value: object) -> Iterator[Tensor]:
    """Yield all tensors in dataclasses and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from _tensors(part)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _tensors(getattr(value, field.name))
