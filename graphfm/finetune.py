"""Fit a pretrained model to one graph, at four depths.

    probe     trunk frozen; the head is solved in closed form, no gradient step
    adapter   then the adapter and the head learn (the paper's MFT)
    decoder   then the node decoder too (the paper's NFT)
    full      then everything

Every depth begins at the probe: a ridge on the states and the raw multi-hop features. In a
prototype it beat twenty gradient steps from a random head almost everywhere, in seconds.

Shapes:
    N  nodes   R  raw columns   D  width   C  classes
"""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from tqdm import tqdm

from graphfm.config import TrainConfig
from graphfm.errors import DataError
from graphfm.graphs.graph import labelled_nodes
from graphfm.graphs.prepare import PreparedGraph
from graphfm.graphs.spec import GraphSpec
from graphfm.model import GraphFM
from graphfm.objectives.supervised import Config as Supervised
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import GraphBatch, make_batch, sample_context, some_of
from graphfm.sampling.plan import Visit, targets_of
from graphfm.training.calibration import Calibration, calibrate, split_validation
from graphfm.training.inference import node_logits, node_states
from graphfm.training.loop import train
from graphfm.training.metrics import accuracy
from graphfm.training.multihop import multihop
from graphfm.training.optim import make_optimizer
from graphfm.training.ridge import fit_ridge

Depth = Literal["probe", "adapter", "decoder", "full"]
DEPTHS: tuple[Depth, ...] = ("probe", "adapter", "decoder", "full")
TARGET = "target"  # the name that a fitted model gives to its graph

# One set of hyperparameters for every graph.
NUM_NEIGHBORS = 16
MAX_CONTEXT = 4096
TARGETS_PER_STEP = 512
STATE_WEIGHTS = (0.0, 0.3, 1.0, 3.0)  # of the state beside raw features, chosen by leave-one-out
LR = 3e-4  # 1e-3 and 1e-4 were worse on validation nodes of eight pretraining graphs
WARMUP_STEPS = 5
EVAL_EVERY = 5
MAX_VAL_NODES = 2048  # of the validation part, for early stopping: an error of about 1 point
MAX_RIDGE_NODES = 20_000  # the closed form costs nodes x columns^2: 15 s at 20,000 x 900
SAMPLING = {"num_neighbors": NUM_NEIGHBORS, "max_context": MAX_CONTEXT}


@dataclass(kw_only=True)
class Fitted:
    """A model that knows one graph.

    Args:
        model: Trunk with one adapter and one head, both named :data:`TARGET`.
        history: Loss of each step, validation accuracy and loss of each evaluation.
        best_step: Gradient steps taken at the best validation score; 0 = the probe.
        val_score: Validation accuracy there; None without validation nodes.
        seconds: Time to fit.
        state_weight: What the closed form chose for the state beside the raw features.
        calibration: What makes its probabilities honest, and its prediction sets.
    """

    model: GraphFM
    history: list[dict[str, float]] = field(default_factory=list)
    best_step: int = 0
    val_score: float | None = None
    seconds: float = 0.0
    state_weight: float = 0.0
    calibration: Calibration = field(default_factory=Calibration)


def bank_of(prepared: PreparedGraph, device: torch.device) -> GraphBank:
    """A bank of one graph, under the name :data:`TARGET`, with the raw features its head reads."""
    renamed = copy.copy(prepared)
    object.__setattr__(renamed, "name", TARGET)
    return GraphBank([renamed], raw={TARGET: multihop(prepared)}, device=device)


def finetune(
    prepared: PreparedGraph,
    model: GraphFM,
    *,
    train_mask: Tensor,
    val_mask: Tensor | None = None,
    tune: Depth = "decoder",
    max_steps: int = 20,
    seed: int = 0,
    progress: bool = False,
) -> Fitted:
    """Fit to the labels of some nodes; no other label is read.

    Args:
        prepared: The graph.
        model: A pretrained model; it is copied, never changed.
        train_mask: (N,) bool, nodes to learn from.
        val_mask: (N,) bool. One half of them chooses the step and fits the temperature, the other
            fits nothing and bounds the prediction sets (``split_validation``). Without them the
            last step is taken, and probabilities stay as they are.
        tune: How deep.
        max_steps: Gradient steps; none for ``probe``.
        seed: Of order, neighbors and dropout.
        progress: Show a bar.

    Raises:
        DataError: GFM131 without a labelled training node, GFM132 with only one class among them.
        GraphFMError: As the model and its parts.
    """
    began = time.monotonic()
    if tune not in DEPTHS:
        raise DataError("GFM209", f"tune must be one of {', '.join(DEPTHS)}, got {tune!r}")
    nodes = _labelled_nodes(prepared, train_mask)
    device = model.encoder.latents.device
    bank = bank_of(prepared, device)
    own = adopt(model, prepared, bank)
    fitted = Fitted(model=own)
    fitted.state_weight = solve_head(own, bank, nodes, seed=seed)
    fit_nodes, held_nodes = _val_nodes(prepared, val_mask, seed)
    val_nodes = some_of(fit_nodes, MAX_VAL_NODES, seed=seed) if len(fit_nodes) else None
    if tune != "probe" and max_steps > 0:
        _descend(fitted, bank, nodes, val_nodes, tune, max_steps, seed, progress)
    elif val_nodes is not None:
        fitted.val_score = _judge(own, bank, val_nodes, seed)["accuracy"]
    fitted.calibration = calibrate(
        own, bank, train=nodes, fit=fit_nodes, held=held_nodes, seed=seed, **SAMPLING
    )
    own.eval()
    fitted.seconds = time.monotonic() - began
    return fitted


def solve_head(model: GraphFM, bank: GraphBank, nodes: Tensor, *, seed: int) -> float:
    """Set the head to the ridge on [state, raw features], scaled so that its logits are honest.

    How much the state counts beside the raw features, and the ridge's strength, are chosen by
    leave-one-out, and the scale by the cross-entropy of the leave-one-out predictions, so that no
    validation label is needed.

    Returns:
        The weight of the state; 0 = it says nothing that the raw features do not.
    """
    nodes = some_of(nodes, MAX_RIDGE_NODES, seed=seed)
    head = model.head(TARGET)
    states = node_states(model, bank, 0, nodes, seed=seed, **SAMPLING)
    on_device = nodes.to(bank.device)
    raw = bank.raw[TARGET][on_device]
    y = bank.y[TARGET][on_device]
    targets = head.targets(y, model.specs[TARGET].task.num_classes)
    fits = {w: fit_ridge(torch.cat([w * states, raw], dim=1), targets) for w in STATE_WEIGHTS}
    weight = min(fits, key=lambda w: fits[w].error)
    fit = fits[weight]
    held_out = (fit.held_out - fit.held_out.mean()).double()

    def loss(log_scale: float) -> float:
        return float(head.loss(held_out * float(np.exp(log_scale)), y).mean())

    scale = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x))
    with torch.no_grad():
        head.score.weight.copy_(scale * fit.weight.t())
        head.score.weight[:, : states.shape[1]] *= weight
        head.score.bias.copy_(scale * (fit.bias - fit.held_out.mean()))
    return weight


def _descend(
    fitted: Fitted,
    bank: GraphBank,
    nodes: Tensor,
    val_nodes: Tensor | None,
    tune: Depth,
    max_steps: int,
    seed: int,
    progress: bool,
) -> None:
    """Gradient steps from the probe on; the weights of the best validation score stay."""
    model = fitted.model
    warmup = min(WARMUP_STEPS, max_steps - 1)
    c = TrainConfig(steps=max_steps, lr=LR, warmup_steps=warmup, final_lr=0.1)
    modules: list[nn.Module] = [model.adapters, model.heads]
    if tune in ("decoder", "full"):
        modules.append(model.decoder)
    if tune == "full":
        modules += [model.encoder, model.position]
    for param in model.parameters():
        param.requires_grad_(False)
    for module in modules:
        module.requires_grad_(True)
    optimizer = make_optimizer(modules, c)
    best = (-1.0, 0.0)
    weights: dict[str, Tensor] = {}

    def judge(step: int) -> None:
        nonlocal best, weights
        if val_nodes is None:
            return
        score = _judge(model, bank, val_nodes, seed)
        fitted.history.append({"step": step, **score})
        if (score["accuracy"], -score["val_loss"]) > best:
            best = (score["accuracy"], -score["val_loss"])
            weights = {k: v.clone() for k, v in model.state_dict().items()}
            fitted.best_step, fitted.val_score = step, score["accuracy"]

    judge(0)
    steps = train(
        model,
        Supervised().build(),
        optimizer,
        lambda step: _batch_at(bank, nodes, step, seed),
        c,
        seed=seed,
    )
    bar = tqdm(steps, total=c.steps, unit="step", disable=not (progress and sys.stderr.isatty()))
    for step in bar:
        fitted.history.append({"step": step.number, "loss": float(step.loss)})
        if step.number % EVAL_EVERY == 0 or step.number == c.steps:
            judge(step.number)
    if weights:
        model.load_state_dict(weights)
    else:
        fitted.best_step = c.steps


def _batch_at(bank: GraphBank, nodes: Tensor, step: int, seed: int) -> GraphBatch:
    """The batch of a step: the next training nodes in an order that is shuffled every turn."""
    size = min(TARGETS_PER_STEP, len(nodes))
    visit = Visit(graph=0, start=step * size, num_targets=size)
    places = targets_of(visit, len(nodes), seed=seed, graph_key=0)
    context = sample_context(bank.num_nodes, MAX_CONTEXT // 4, seed=[seed, step])
    return make_batch(
        bank,
        [0],
        [nodes[torch.from_numpy(places)]],
        [context],
        num_neighbors=NUM_NEIGHBORS,
        seed=seed,
        epoch=1 + step,
    )


def _judge(model: GraphFM, bank: GraphBank, nodes: Tensor, seed: int) -> dict[str, float]:
    logits = node_logits(model, bank, 0, nodes, seed=seed, **SAMPLING)
    head, y = model.head(TARGET), bank.y[TARGET][nodes.to(bank.device)]
    with torch.no_grad():
        loss = float(head.loss(logits, y).mean())
        probabilities = head.probabilities(logits)
    return {"val_loss": loss, "accuracy": accuracy(y.cpu().numpy(), probabilities.cpu().numpy())}


def adopt(model: GraphFM, prepared: PreparedGraph, bank: GraphBank) -> GraphFM:
    """A copy of the trunk with one new adapter, begun as the universal one, and one new head."""
    shape = model.shape.model_copy(update={"universal_share": 0.0})  # from here on its own only
    own = GraphFM(shape, seed=0)
    for name, module in own.trunk.items():
        module.load_state_dict(model.trunk[name].state_dict())
    own.universal.load_state_dict(model.universal.state_dict())
    own.add_graph(
        GraphSpec(
            name=TARGET,
            num_features=prepared.num_features,
            task=prepared.task,
            num_raw=bank.raw[TARGET].shape[1],
        )
    )
    return own.to(bank.device)


def _labelled_nodes(prepared: PreparedGraph, mask: Tensor) -> Tensor:
    y = prepared.y
    if y is None:
        raise DataError("GFM131", "the graph has no labels to learn from", where=prepared.name)
    nodes = (mask & labelled_nodes(y)).nonzero().flatten()
    if len(nodes) < 2:
        raise DataError(
            "GFM131",
            f"fitting needs at least 2 labelled training nodes, got {len(nodes)}",
            where=prepared.name,
        )
    if y.ndim == 1 and len(y[nodes].unique()) < 2:
        raise DataError("GFM132", "all training nodes have the same class", where=prepared.name)
    return nodes


def _val_nodes(prepared: PreparedGraph, mask: Tensor | None, seed: int) -> tuple[Tensor, Tensor]:
    """Labelled validation nodes: those to fit with and those held back, each ascending."""
    none = torch.zeros(0, dtype=torch.int64)
    if mask is None or prepared.y is None:
        return none, none
    nodes = (mask & labelled_nodes(prepared.y)).nonzero().flatten()
    ids = prepared.node_ids
    names = [str(i) if ids is None else ids[i] for i in nodes.tolist()]
    fit, held = split_validation(names, seed=seed)
    return nodes[torch.from_numpy(fit)], nodes[torch.from_numpy(held)]
