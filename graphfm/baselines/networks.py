"""The training loop of every network: full batch, Adam, the best epoch on validation answers.

Shapes:
    N  nodes   Q  nodes asked for   C  classes
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphfm.baselines.task import Task

EPOCHS = 300
PATIENCE = 50  # epochs without a better one
RUNGS = (20, 40, 80)  # epochs after which a trial of a search may be given up
EVERY = 2  # epochs from one look at the validation nodes to the next: a look is a third of an epoch

# Training settings that all networks share, after Luo et al. (arXiv 2406.08993, appendix A); their
# 1e-3 for 1,000 to 2,500 epochs is out of reach of a CPU, 2e-3 for 300 is not.
TRAINING: Mapping[str, tuple[Any, ...]] = {
    "lr": (0.01, 0.005, 0.002),
    "weight_decay": (0.0, 5e-5, 5e-4),
    "epochs": (EPOCHS,),
    "patience": (PATIENCE,),
}


class Network(nn.Module):
    """A network that knows its graph."""

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Logits of some nodes, (Q,) -> (Q, C); dropout is drawn where a generator is given."""
        raise NotImplementedError


def fit_network(
    build: Callable[[], Network],
    task: Task,
    settings: Mapping[str, Any],
    *,
    seed: int,
    deadline: float,
) -> np.ndarray:
    """Class probabilities of every node, (N, C).

    Args:
        build: Makes the network, from torch's global generator.
        task: What is asked.
        settings: ``lr``, ``weight_decay``, ``epochs``, ``patience`` (epochs without a better one on
            the validation nodes, after which it stops); ``batch``, if there, is the most training
            nodes of a step; ``every``, epochs from one look at the validation nodes to the next.
        seed: Decides initial weights and dropout.
        deadline: Of ``time.process_time()``; the best epoch so far answers.
    """
    # PyG draws initial weights from the global generator; its state is put back afterwards.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        torch.manual_seed(seed)
        return _train(build(), task, settings, torch.Generator().manual_seed(seed), deadline)


def _train(
    model: Network,
    task: Task,
    settings: Mapping[str, Any],
    rng: torch.Generator,
    deadline: float,
) -> np.ndarray:
    labels = task.labels
    train, val = torch.from_numpy(labels.train), torch.from_numpy(labels.val)
    y_train = torch.from_numpy(labels.y_train)
    everyone = torch.arange(len(train))
    batch = min(settings.get("batch", len(train)), len(train))
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    every = settings.get("every", EVERY)
    best: dict[str, Tensor] = {}
    best_score, best_epoch = (-1.0, 0.0), 0
    for epoch in range(1, settings["epochs"] + 1):
        model.train()
        chosen = everyone
        if batch < len(train):
            chosen = torch.randperm(len(train), generator=rng)[:batch]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(train[chosen], rng), y_train[chosen])
        torch.autograd.backward(loss)
        optimizer.step()
        if len(val) and epoch % every == 0:
            score = task.score_of_val(_predict(model, val))
            if score > best_score:
                best_score, best_epoch = score, epoch
                best = {name: value.clone() for name, value in model.state_dict().items()}
        if best and (
            epoch - best_epoch >= settings["patience"]
            or time.process_time() > deadline
            or (epoch in RUNGS and task.race.is_lost(epoch, best_score[0]))
        ):
            break
    if best:
        model.load_state_dict(best)
    return _predict(model, torch.arange(task.graph.num_nodes))


@torch.no_grad()
def _predict(model: Network, nodes: Tensor) -> np.ndarray:
    model.eval()
    proba: np.ndarray = model(nodes, None).softmax(dim=1).double().numpy()
    return proba
