"""Training loop of the peer networks: full batch, Adam, best epoch by validation score.

Shapes:
    N  nodes   Q  chosen nodes   C  classes
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
PATIENCE = 50  # epochs without a better validation score
RUNGS = (20, 40, 80)  # epochs after which a search may stop a trial
EVERY = 2  # epochs between two validations; a validation takes a third of an epoch

# Training settings of all networks, after Luo et al. (arXiv 2406.08993, appendix A). Their learning
# rate 1e-3 for 1,000 to 2,500 epochs takes too long on a CPU; 2e-3 for 300 epochs does not.
TRAINING: Mapping[str, tuple[Any, ...]] = {
    "lr": (0.01, 0.005, 0.002),
    "weight_decay": (0.0, 5e-5, 5e-4),
    "epochs": (EPOCHS,),
    "patience": (PATIENCE,),
}


class Network(nn.Module):
    """Network for one graph, which it holds."""

    def forward(self, nodes: Tensor, rng: torch.Generator | None) -> Tensor:
        """Compute the logits of some nodes, (Q,) -> (Q, C); a generator turns dropout on."""
        raise NotImplementedError


def fit_network(
    build: Callable[[], Network],
    task: Task,
    settings: Mapping[str, Any],
    *,
    seed: int,
    deadline: float,
) -> np.ndarray:
    """Train a network and return class probabilities of all nodes, (N, C).

    Args:
        build: Function that makes the network; it uses torch's global generator.
        task: Graph, labels and metric.
        settings: ``lr``, ``weight_decay``, ``epochs`` and ``patience`` (epochs without a better
            validation score after which training stops). Optional: ``batch``, the maximum number of
            training nodes of a step, and ``every``, the epochs between two validations.
        seed: Seed of initial weights and dropout.
        deadline: Value of ``time.process_time()`` at which training stops with the best epoch.
    """
    # Layers draw initial weights from the global generator: restore its state afterwards.
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
    """Take the gradient steps, keep the best epoch and predict all nodes, (N, C)."""
    labels = task.labels
    train, val = torch.from_numpy(labels.train), torch.from_numpy(labels.val)
    y_train = torch.from_numpy(labels.y_train)
    all_train = torch.arange(len(train))
    batch = min(settings.get("batch", len(train)), len(train))
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings["lr"], weight_decay=settings["weight_decay"]
    )
    every = settings.get("every", EVERY)
    best: dict[str, Tensor] = {}
    best_score, best_epoch = (-1.0, 0.0), 0
    for epoch in range(1, settings["epochs"] + 1):
        model.train()
        chosen = all_train
        if batch < len(train):
            chosen = torch.randperm(len(train), generator=rng)[:batch]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(train[chosen], rng), y_train[chosen])
        torch.autograd.backward(loss)
        optimizer.step()
        if len(val) and epoch % every == 0:
            score = task.score_val_rows(_predict(model, val))
            if score > best_score:
                best_score, best_epoch = score, epoch
                best = {name: value.clone() for name, value in model.state_dict().items()}
        if best and (
            epoch - best_epoch >= settings["patience"]
            or time.process_time() > deadline
            or (epoch in RUNGS and task.stopping.should_stop(epoch, best_score[0]))
        ):
            break
    if best:
        model.load_state_dict(best)
    return _predict(model, torch.arange(task.graph.num_nodes))


@torch.no_grad()
def _predict(model: Network, nodes: Tensor) -> np.ndarray:
    """Class probabilities of some nodes, (Q, C)."""
    model.eval()
    proba: np.ndarray = model(nodes, None).softmax(dim=1).double().numpy()
    return proba
