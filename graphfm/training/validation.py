"""Evaluation on the validation nodes of a corpus.

Shapes:
    Q  nodes of one graph   C  its classes
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from graphfm.metrics import accuracy
from graphfm.model.graphfm import GraphFM
from graphfm.training.corpus import Corpus


@torch.no_grad()
def evaluate(model: GraphFM, corpus: Corpus, num_targets: int) -> dict[str, dict[str, float]]:
    """Return loss over log C and accuracy of each graph, by name.

    Predictions come from the trained heads. An objective without heads solves closed-form ones on
    training nodes, as many as there are validation nodes.

    Args:
        model: Model to evaluate; left in evaluation mode.
        corpus: Graphs.
        num_targets: Largest number of validation nodes of each graph.
    """
    model.eval()
    result = {}
    for group in corpus.val_groups():
        predicted = predict_validation(model, corpus, group, num_targets)
        for name, (y, loss, probabilities) in predicted.items():
            result[name] = {
                "loss": float(loss),
                "accuracy": accuracy(y.cpu().numpy(), probabilities.cpu().numpy()),
            }
    return result


@torch.no_grad()
def predict_validation(
    model: GraphFM, corpus: Corpus, group: Sequence[int], num_targets: int
) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Return labels (Q,), loss (scalar) and probabilities (Q, C) of validation nodes, by graph.

    Args:
        model: Model in evaluation mode.
        corpus: Graphs.
        group: Positions of the graphs in the bank.
        num_targets: Largest number of validation nodes of each graph.
    """
    objective = corpus.recipe.objective.build()
    batch = corpus.val_batch(group, num_targets)
    training = None
    if objective.needs_training_nodes:
        training = corpus.val_batch(group, num_targets, training=True)
    results = objective.evaluate(model, batch, training)
    return {
        name: (y, loss, probabilities)
        for name, y, (loss, probabilities) in zip(batch.names, batch.y, results, strict=True)
    }
