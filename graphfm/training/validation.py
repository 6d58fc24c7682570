"""How good a model is on the nodes of its corpus that never teach."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphfm.metrics import accuracy
from graphfm.model.graphfm import GraphFM
from graphfm.training.corpus import Corpus


@torch.no_grad()
def evaluate(model: GraphFM, corpus: Corpus, num_targets: int) -> dict[str, dict[str, float]]:
    """Loss / log C and accuracy of each graph, on at most so many of its validation nodes.

    By the heads that have learned, or, of an objective without any, by closed-form ones on as many
    of the nodes that teach.
    """
    model.eval()
    result = {}
    for group in corpus.val_groups():
        for name, (y, loss, probabilities) in judged(model, corpus, group, num_targets).items():
            result[name] = {
                "loss": float(loss),
                "accuracy": accuracy(y.cpu().numpy(), probabilities.cpu().numpy()),
            }
    return result


@torch.no_grad()
def judged(
    model: GraphFM, corpus: Corpus, group: Sequence[int], num_targets: int
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Labels, loss and probabilities of the validation nodes of some graphs, by name."""
    objective = corpus.recipe.objective.build()
    batch = corpus.val_batch(group, num_targets)
    taught = corpus.val_batch(group, num_targets, taught=True) if objective.reads_taught else None
    said = objective.judge(model, batch, taught)
    return {name: (y, *one) for name, y, one in zip(batch.names, batch.y, said, strict=True)}
