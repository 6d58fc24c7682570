"""Compiled rows: the same numbers, and no compilation after the first step."""

from __future__ import annotations

import pytest
import torch

from graphfm.sampling.bank import GraphBank
from graphfm.training.compiled import compile_rows
from graphfm.training.objectives.supervised import Config as Supervised
from tests.graphs import batch_of, small_model, three_graphs

KINDS = [[0, 1, 2], [0, 2], [1]]


def targets_of_size(step: int) -> list[torch.Tensor]:
    return [torch.arange(5 + step + i) for i in range(len(KINDS[step % 3]))]


@pytest.mark.filterwarnings("ignore")  # of the compiler
def test_no_compilation_at_new_sizes_and_the_same_numbers():
    """Every step has other numbers of graphs, tokens and targets.

    The backend counts compilations and returns the uncompiled function. Seen to fail with
    ``dynamic=False``, and without flattening the leading sizes, which compiles again at step 2.
    """
    compilations: list[int] = []

    def backend(module, _inputs):
        compilations.append(step)
        return module.forward

    graphs = three_graphs()
    bank, objective = GraphBank(graphs), Supervised().build()
    compiled, plain = small_model(graphs).train(), small_model(graphs).train()
    names = list(plain.state_dict())
    compile_rows(compiled, backend=backend)
    assert list(compiled.state_dict()) == names
    try:
        for step in range(9):
            batch = batch_of(bank, KINDS[step % 3], targets=targets_of_size(step))
            gradients = []
            for model in (compiled, plain):
                torch.manual_seed(step)  # of dropout
                objective(model, batch)[0].backward()
                gradients.append([p.grad for p in model.parameters() if p.grad is not None])
                model.zero_grad()
            for got, wanted in zip(*gradients, strict=True):
                assert torch.equal(got, wanted)
    finally:
        torch.compiler.reset()
    # Positions; feed-forward layers of adapters, and of the trunk, with and without a gradient.
    assert set(compilations) == {0} and len(compilations) <= 4


@pytest.mark.gpu
def test_compiled_rows_on_cuda():
    graphs = three_graphs()
    bank, objective = GraphBank(graphs, device="cuda"), Supervised().build()
    compiled, plain = (small_model(graphs).cuda() for _ in range(2))
    compile_rows(compiled)
    try:
        for step in range(9):
            if step == 3:
                torch.compiler.set_stance("fail_on_recompile")
            batch = batch_of(bank, KINDS[step % 3], targets=targets_of_size(step))
            losses = [objective(model, batch)[0] for model in (compiled, plain)]
            losses[0].backward()
            torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-4)
    finally:
        torch.compiler.set_stance("default")
        torch.compiler.reset()
