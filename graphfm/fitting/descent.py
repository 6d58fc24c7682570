"""Gradient steps of a fit: from the probe on, with early stopping.

Shapes:
    V  validation nodes   C  classes
"""

from __future__ import annotations

import sys
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
# Evaluations in a row without a better one, then a fit stops: beside a pool of experts ten of ten
# pretraining graphs stayed with the probe, and each step costs as much as an expert.
PATIENCE = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class ValidationScore:
    """How a model does on the validation nodes.

    Args:
        score: Accuracy, for several labels the share of right ones; for a number the share of
            the training targets' variance that is explained (R2 against their mean).
        loss: Mean, over log C; for a number over that variance.
        right: (V,) what each node adds to the score; their mean is it.
    """

    score: float
    loss: float
    right: np.ndarray
    metric: str = "accuracy"

    @property
    def order(self) -> tuple[float, float]:
        """The higher, the better: score, then loss where scores tie."""
        return self.score, -self.loss

    def record(self, step: int) -> dict[str, float]:
        """As a history keeps it."""
        return {"step": step, "val_loss": self.loss, "accuracy": self.score}


@dataclass(kw_only=True)
class FineTuneResult:
    """What gradient steps did to a model, whose weights are those of the best evaluation.

    Args:
        history: Loss of each step, score and loss of each evaluation.
        best_step: Steps taken at the best one; 0 = the probe. The last without validation nodes.
        best: Of it; None without validation nodes.
        steps: Steps taken.
        stopped: Why before ``max_steps``; empty = all were taken.
        seconds: They took.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    best: ValidationScore | None = None
    steps: int = 0
    stopped: str = ""
    seconds: float = 0.0

    @property
    def late(self) -> bool:
        """Whether time ran out."""
        return self.stopped == OUT_OF_TIME


def validate(
    model: GraphFM | Ensemble, bank: GraphBank, nodes: Tensor, seed: int
) -> ValidationScore:
    """Score and loss on labelled nodes."""
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
    begin: ValidationScore | None = None,
    out_of_time: Callable[[float], bool] = lambda _: False,
    progress: bool = False,
) -> FineTuneResult:
    """Take gradient steps; the weights of the best validation score stay.

    Args:
        model: What learns, its head solved already.
        bank: Holds the graph.
        nodes: To learn from.
        val_nodes: To stop by; None = all steps are taken and the last one stays.
        depth: Which of its parts learn.
        max_steps: At most; stops after :data:`PATIENCE` evaluations without a better one.
        seed: Of order, neighbors and dropout.
        begin: What :func:`validate` says of the model now.
        out_of_time: Whether so many seconds more are too many; asked before every step.
        progress: Show a bar.
    """
    began = time.monotonic()
    done = FineTuneResult()
    c = TrainConfig(
        steps=max_steps, lr=LR, warmup_steps=min(WARMUP_STEPS, max_steps - 1), final_lr=0.1
    )
    modules: list[nn.Module] = [model.adapters, model.heads]
    if depth in ("decoder", "full"):
        modules.append(model.decoder)
    if depth == "full":
        modules += [model.encoder, model.position]
    for param in model.parameters():
        param.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
    weights: dict[str, Tensor] = {}
    behind = 0  # evaluations without a better one
    longest, judging = 0.0, 0.0  # seconds of the longest evaluation, and of all

    def evaluate(step: int) -> None:
        nonlocal weights, behind, longest, judging
        if val_nodes is None:
            return
        before = time.monotonic()
        found = begin if step == 0 and begin is not None else validate(model, bank, val_nodes, seed)
        seconds = time.monotonic() - before
        longest, judging = max(longest, seconds), judging + seconds
        done.history.append({"step": step, "val_loss": found.loss, found.metric: found.score})
        behind += 1
        if done.best is None or found.order > done.best.order:
            done.best, done.best_step, behind = found, step, 0
            weights = {k: v.clone() for k, v in model.state_dict().items()}

    evaluate(0)
    optimizer = make_optimizer(modules, c)  # the first of a process takes torch two seconds
    stepping, judging = time.monotonic(), 0.0
    taken = train(
        model,
        Supervised().build(),
        optimizer,
        lambda step: _batch_at(bank, nodes, step, seed),
        c,
        seed=seed,
    )
    bar = tqdm(
        total=c.steps, unit="step", desc=depth, disable=not (progress and sys.stderr.isatty())
    )
    for step in taken:
        done.steps = step.number
        done.history.append({"step": step.number, "loss": float(step.loss)})
        bar.update()
        # the next step, and the evaluation after it, must end in time
        a_step = (time.monotonic() - stepping - judging) / step.number
        late = out_of_time(a_step + longest)
        if step.number % EVAL_EVERY == 0 or step.number == c.steps or late:
            evaluate(step.number)
        if late and step.number < c.steps:
            done.stopped = OUT_OF_TIME
            break
        if behind >= PATIENCE and step.number < c.steps:
            done.stopped = f"{PATIENCE} evaluations without a better one"
            break
    bar.close()
    if weights:
        model.load_state_dict(weights)
    else:
        done.best_step = done.steps
    done.seconds = time.monotonic() - began
    return done


def _batch_at(bank: GraphBank, nodes: Tensor, step: int, seed: int) -> GraphBatch:
    """The batch of a step: the next training nodes in an order that is shuffled every turn."""
    size = min(TARGETS_PER_STEP, len(nodes))
    visit = Visit(graph=0, start=step * size, num_targets=size)
    places = targets_of(visit, len(nodes), seed=seed, graph_key=0)
    context = sample_context(bank.num_nodes, STEP_CONTEXT, seed=[seed, step])
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
    """Right labels of each node, over known labels of a node on average: (V, C), (V, C) -> (V,)."""
    known = truth >= 0
    hits = (((given > 0.5) == (truth == 1)) & known).sum(axis=1)
    shares: np.ndarray = hits / max(known.sum() / max(len(truth), 1), 1e-12)
    return shares
