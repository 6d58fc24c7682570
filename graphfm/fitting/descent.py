"""Gradient steps of a fit, from the probe on, with early stopping.

Shapes:
    V  validation nodes   C  classes
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from graphfm.config.recipe import TrainConfig
from graphfm.fitting.ensemble import Ensemble
from graphfm.fitting.inference import node_logits
from graphfm.fitting.probe import MAX_CONTEXT, NUM_NEIGHBORS, SAMPLING, TARGET
from graphfm.metrics import accuracy
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import GraphBatch, make_batch, sample_context
from graphfm.sampling.plan import Visit, targets_of
from graphfm.training.loop import train
from graphfm.training.objectives.supervised import Config as Supervised
from graphfm.training.optim import make_optimizer

Depth = Literal["probe", "adapter", "decoder", "full"]
DEPTHS: tuple[Depth, ...] = ("probe", "adapter", "decoder", "full")

# One set of hyperparameters for every graph.
TARGETS_PER_STEP = 256  # 512: a third slower, +0.00 +- 0.10 points on 9 pretraining groups
STEP_CONTEXT = MAX_CONTEXT // 4  # nodes that the encoder reads in a gradient step
LR = 3e-4  # 1e-3 and 1e-4 were worse on validation nodes of eight pretraining graphs
WARMUP_STEPS = 5
EVAL_EVERY = 5
OUT_OF_TIME = "out of time"
# Evaluations in a row without improvement before a fit stops. With a pool of experts ten of ten
# pretraining graphs stayed at the probe, and each step costs as much as an expert.
PATIENCE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationScore:
    """Score and loss of a model on the validation nodes.

    Args:
        score: Accuracy. For several labels a node, the share of right labels; for a number, the
            share of the training targets' variance that is explained (R2 against their mean).
        loss: Mean loss over log C; for a number over the variance of the training targets.
        right: Contribution of each node to the score, (V,); their mean is the score.
        metric: Name of the score in a history.
    """

    score: float
    loss: float
    right: np.ndarray
    metric: str = "accuracy"

    @property
    def order(self) -> tuple[float, float]:
        """Sort key, higher is better: the score, then the loss where scores tie."""
        return self.score, -self.loss

    def record(self, step: int) -> dict[str, float]:
        """Return the entry of a history."""
        return {"step": step, "val_loss": self.loss, "accuracy": self.score}


@dataclass(kw_only=True)
class FineTuneResult:
    """Result of gradient steps; the model has the weights of the best evaluation.

    Args:
        history: Loss of each step, and score and loss of each evaluation.
        best_step: Steps taken at the best evaluation, 0 = the probe; without validation nodes, all
            steps taken.
        best: Score of the best evaluation; None without validation nodes.
        steps: Number of steps taken.
        stopped: Reason for stopping before ``max_steps``; empty if all were taken.
        seconds: Duration in seconds.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best: ValidationScore | None = None
    steps: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @property
    def out_of_time(self) -> bool:
        """True if the time limit ended the steps."""
        return self.stopped == OUT_OF_TIME


def validate(
    model: GraphFM | Ensemble, bank: GraphBank, nodes: Tensor, seed: int
) -> ValidationScore:
    """Compute score and loss on labelled nodes.

    Args:
        model: Fitted model.
        bank: Bank that holds the graph.
        nodes: Indices of labelled nodes, (V,).
        seed: Seed of neighbors.
    """
    logits = node_logits(model, bank, 0, nodes, seed=seed, **SAMPLING)
    head, y = model.head(TARGET), bank.y[TARGET][nodes.to(bank.device)]
    with torch.no_grad():
        losses = head.loss(logits, y)
        loss = float(losses.mean())
        if y.is_floating_point():
            right = 1 - losses.double().cpu().numpy()
            return ValidationScore(score=float(right.mean()), loss=loss, right=right, metric="r2")
        numbers = model.specs[TARGET].task.kind == "regress"
        given = (head.values if numbers else head.probabilities)(logits).cpu().numpy()
    truth = y.cpu().numpy()
    if numbers:  # R2 is a mean over nodes too
        right = 1 - (truth - given) ** 2 / max(float(truth.var()), 1e-300)
        return ValidationScore(score=float(right.mean()), loss=loss, right=right)
    if truth.ndim == 2:
        right = _share_of_right(truth, given)
        return ValidationScore(score=accuracy(truth, given), loss=loss, right=right)
    right = (given.argmax(axis=1) == truth).astype(np.float64)
    return ValidationScore(score=accuracy(truth, given), loss=loss, right=right)


def descend(
    model: GraphFM,
    bank: GraphBank,
    nodes: Tensor,
    val_nodes: Tensor | None,
    depth: Depth,
    *,
    max_steps: int,
    seed: int,
    start: ValidationScore | None = None,
    would_exceed: Callable[[float], bool] = lambda _: False,
    clock: Callable[[], float] = time.monotonic,
    progress: bool = False,
) -> FineTuneResult:
    """Take gradient steps, and keep the weights of the best validation score.

    Args:
        model: Model to train, its head already solved.
        bank: Bank that holds the graph.
        nodes: Indices of the training nodes.
        val_nodes: Indices of the validation nodes. None takes all steps and keeps the last weights.
        depth: Depth, which says which parts are trained.
        max_steps: Largest number of steps. Training stops earlier after :data:`PATIENCE`
            evaluations without improvement.
        seed: Seed of node order, neighbors and dropout.
        start: Validation score of the model before the first step. Default: computed.
        would_exceed: Returns true if so many more seconds would exceed the time limit; called after
            every step. Default: no limit.
        clock: Function that returns the time in seconds.
        progress: If true, show a progress bar.
    """
    began = clock()
    result = FineTuneResult()
    c = TrainConfig(
        steps=max_steps, lr=LR, warmup_steps=min(WARMUP_STEPS, max_steps - 1), final_lr=0.1
    )
    modules = _freeze_all_but(model, depth)
    weights: dict[str, Tensor] = {}
    behind = 0  # evaluations without improvement
    longest, evaluating = 0.0, 0.0  # seconds of the longest evaluation, and of all

    def evaluate(step: int) -> None:
        nonlocal weights, behind, longest, evaluating
        if val_nodes is None:
            return
        before = clock()
        known = step == 0 and start is not None
        found = start if known else validate(model, bank, val_nodes, seed)
        assert found is not None
        seconds = clock() - before
        longest, evaluating = max(longest, seconds), evaluating + seconds
        result.history.append({"step": step, "val_loss": found.loss, found.metric: found.score})
        behind += 1
        if result.best is None or found.order > result.best.order:
            result.best, result.best_step, behind = found, step, 0
            weights = {k: v.clone() for k, v in model.state_dict().items()}

    evaluate(0)
    optimizer = make_optimizer(modules, c)  # the first one of a process takes torch two seconds
    stepping, evaluating = clock(), 0.0
    taken = train(
        model,
        Supervised().build(),
        optimizer,
        lambda step: _batch_at(bank, nodes, step, seed),
        c,
        seed=seed,
    )
    bar = tqdm(total=c.steps, unit="step", desc=depth, disable=not progress)
    for step in taken:
        result.steps = step.number
        result.history.append({"step": step.number, "loss": float(step.loss)})
        bar.update()
        # There must be time for the next step and the evaluation after it.
        step_seconds = (clock() - stepping - evaluating) / step.number
        late = would_exceed(step_seconds + longest)
        if step.number % EVAL_EVERY == 0 or step.number == c.steps or late:
            evaluate(step.number)
        if late and step.number < c.steps:
            result.stopped = OUT_OF_TIME
            break
        if behind >= PATIENCE and step.number < c.steps:
            result.stopped = f"{PATIENCE} evaluations without a better one"
            break
    bar.close()
    if weights:
        model.load_state_dict(weights)
    else:
        result.best_step = result.steps
    result.seconds = clock() - began
    return result


def _freeze_all_but(model: GraphFM, depth: Depth) -> list[nn.Module]:
    """Freeze the model except for the modules that a depth trains; return these."""
    modules: list[nn.Module] = [model.adapters, model.heads]
    if depth in ("decoder", "full"):
        modules.append(model.decoder)
    if depth == "full":
        modules += [model.encoder, model.position]
    for param in model.parameters():
        param.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
    return modules


def _batch_at(bank: GraphBank, nodes: Tensor, step: int, seed: int) -> GraphBatch:
    """Batch of a step: the next training nodes in an order that is shuffled every epoch."""
    size = min(TARGETS_PER_STEP, len(nodes))
    visit = Visit(graph=0, start=step * size, num_targets=size)
    places = targets_of(visit, len(nodes), seed=seed, graph_key=0)
    context = sample_context(bank.num_nodes, STEP_CONTEXT, seed=[seed, step], keys=bank.sample_keys)
    return make_batch(
        bank,
        [0],
        [nodes[torch.from_numpy(places)]],
        [context],
        num_neighbors=NUM_NEIGHBORS,
        seed=seed,
        epoch=1 + step,
    )


def _share_of_right(truth: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Right labels of each node over the mean number of known labels: (V, C), (V, C) -> (V,)."""
    known = truth >= 0
    hits = (((given > 0.5) == (truth == 1)) & known).sum(axis=1)
    shares: np.ndarray = hits / max(known.sum() / max(len(truth), 1), 1e-12)
    return shares
