"""How good a model is on the nodes of its corpus that never teach."""

from __future__ import annotations

import torch

from graphfm.model import GraphFM
from graphfm.training.corpus import Corpus
from graphfm.training.metrics import accuracy


@torch.no_grad()
def evaluate(model: GraphFM, corpus: Corpus, num_targets: int) -> dict[str, dict[str, float]]:
    """Loss / log C and accuracy of each graph, on at most so many of its validation nodes."""
    model.eval()
    result = {}
    for group in corpus.val_groups():
        batch = corpus.val_batch(group, num_targets)
        for name, logits, y in zip(batch.names, model(batch), batch.y, strict=True):
            head = model.head(name)
            result[name] = {
                "loss": float(head.loss(logits, y).mean()),
                "accuracy": accuracy(y.cpu().numpy(), head.probabilities(logits).cpu().numpy()),
            }
    return result
