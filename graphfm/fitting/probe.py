"""The probe, where every fit begins: a frozen trunk whose head is solved in closed form.

A classification head pools closed-form experts by their held-out loss; the first is a ridge on the
trunk's states. Validation nodes correct the weights.

Shapes:
    N  nodes   Q  nodes asked for   R  raw columns   E  experts   C  classes
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from graphfm.experts.pool import Experts, choose_temperature, fit_experts, log_probabilities
from graphfm.experts.scaled_ridge import axes_of, fit_scaled_ridge
from graphfm.fitting.inference import node_states
from graphfm.graphs.features.multihop import NUM_HOPS, Scaling, num_multihop, scaled_multihop
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.spec import GraphSpec
from graphfm.model.graphfm import GraphFM
from graphfm.model.heads.classify import trust_in_held_out
from graphfm.model.nn.ridge import RidgeFit, fit_ridge
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import subsample

TARGET = "target"  # name of the graph in a fitted model
NUM_NEIGHBORS = 16
MAX_CONTEXT = 4096
SAMPLING = {"num_neighbors": NUM_NEIGHBORS, "max_context": MAX_CONTEXT}
STATE_WEIGHTS = (0.0, 0.3, 1.0, 3.0)  # of states beside raw features, chosen by leave-one-out
OFFSET_WIDTH = 0.7  # standard deviation of the prior on a log weight; 0.35 gained less
MAX_RIDGE_NODES = 20_000  # the closed form costs nodes x columns^2: 15 s at 20,000 x 900


def bank_of(
    prepared: PreparedGraph,
    device: torch.device,
    *,
    like: Scaling | None = None,
    experts: Experts | None = None,
) -> GraphBank:
    """Build the bank of one graph, named :data:`TARGET`, with the raw columns of its head.

    Args:
        prepared: The graph.
        device: Device of the bank.
        like: Scaling of the raw columns in the bank of the fit. Default: fitted to this graph.
        experts: Experts of the fit, whose columns follow the raw ones. Default: none.
    """
    renamed = replace(prepared, name=TARGET)
    raw, scaling = scaled_multihop(prepared, like)
    if experts is not None:
        raw = torch.cat([raw, experts.columns(prepared, raw)], dim=1)
    return GraphBank(
        [renamed],
        raw={TARGET: raw},
        scaling=scaling,
        device=device,
        sample_keys=prepared.sample_keys,
    )


def add_experts(
    bank: GraphBank, prepared: PreparedGraph, nodes: Tensor, *, seed: int, with_trees: bool = True
) -> Experts | None:
    """Fit experts to some labels, and append their columns to the raw columns of the bank.

    Args:
        bank: Bank of the graph; its raw columns are replaced.
        prepared: The graph.
        nodes: Indices of the training nodes.
        seed: Seed of the experts.
        with_trees: If true, boosted trees are among the experts.

    Returns:
        The experts. None for a task without experts, and for a graph that is too large.
    """
    if prepared.task.kind != "classify":
        return None
    raw = bank.raw[TARGET].cpu()
    num_classes = prepared.task.num_classes
    found = fit_experts(
        prepared, raw, nodes, num_classes=num_classes, seed=seed, with_trees=with_trees
    )
    if found is None:
        return None
    experts, columns = found
    bank.raw[TARGET] = torch.cat([raw, columns], dim=1).to(bank.device)
    return experts


def adopt(
    model: GraphFM, prepared: PreparedGraph, bank: GraphBank, experts: Experts | None = None
) -> GraphFM:
    """Copy a trunk, with one new adapter, equal to the universal one, and one new head.

    Args:
        model: Pretrained model.
        prepared: The graph.
        bank: Bank of the graph; its device is used.
        experts: Experts that the head pools. Default: none, a linear head.
    """
    shape = model.shape.model_copy(update={"universal_share": 0.0})  # only the new adapter is used
    own = GraphFM(shape, seed=0)
    for name, module in own.trunk.items():
        module.load_state_dict(model.trunk[name].state_dict())
    own.universal.load_state_dict(model.universal.state_dict())
    own.add_graph(
        GraphSpec(
            name=TARGET,
            num_features=prepared.num_features,
            task=prepared.task,
            num_raw=num_multihop(prepared),
            num_experts=1 if experts is None else 1 + len(experts.names),
        )
    )
    if experts is not None:
        head = own.head(TARGET)
        head.held_out[1:] = experts.held_out
        head.trust.fill_(trust_in_held_out(len(experts.known["y"]) / experts.num_classes))
    return own.to(bank.device)


def solve_head(
    model: GraphFM, bank: GraphBank, nodes: Tensor, *, seed: int, power: float | None = None
) -> float:
    """Set the head to the ridge on [state, raw features], with calibrated logits.

    Leave-one-out chooses the weight of the state beside the raw features and the ridge's penalty.
    The scale of the logits minimises the cross-entropy of the leave-one-out predictions, so that no
    validation label is needed.

    Args:
        model: Model whose head is set.
        bank: Bank that holds the graph.
        nodes: Indices of the training nodes, (n,).
        seed: Seed of neighbors, and of the sample where there are too many nodes.
        power: Power of the feature axes (``scaled_ridge``) that the experts chose. Default: chosen
            here.

    Returns:
        Weight of the state; 0 if it adds nothing to the raw features.
    """
    nodes = subsample(nodes, MAX_RIDGE_NODES, seed=seed)
    head = model.head(TARGET)
    states = node_states(model, bank, 0, nodes, seed=seed, **SAMPLING)
    on_device = nodes.to(bank.device)
    raw = bank.raw[TARGET][on_device][:, : model.specs[TARGET].num_raw]
    y = bank.y[TARGET][on_device]
    number = model.specs[TARGET].task.kind == "regress"
    if number:
        head.fit_scale(y)
    targets = head.targets(y, model.specs[TARGET].task.num_classes)
    # With experts, which read no states, choosing the weight gains nothing and costs 3 more ridges.
    weights = STATE_WEIGHTS if model.specs[TARGET].num_experts == 1 else (1.0,)
    columns = torch.cat([states, raw], dim=1)
    axes, blocks = axes_of(bank.x[TARGET]), NUM_HOPS + 1
    begin = columns.shape[1] - blocks * len(axes)
    powers = None if power is None else (power,)
    found = fit_scaled_ridge(columns, targets, axes, begin=begin, blocks=blocks, powers=powers)

    def fit_with(weight: float) -> RidgeFit:
        if weight == 1.0:
            return found.fit
        by = found.gain.clone()
        by[: states.shape[1]] = weight
        other = fit_ridge(columns * by, targets)
        return replace(other, weight=by[:, None] * other.weight)

    fits = {weight: fit_with(weight) for weight in weights}
    weight = min(fits, key=lambda w: fits[w].error)
    fit = fits[weight]
    # Least squares predicts a number directly; class scores need a scale and no mean.
    mean = 0.0 if number else fit.held_out.mean()
    held_out = (fit.held_out - mean).double()

    def loss(log_scale: float) -> float:
        return float(head.loss(held_out * float(np.exp(log_scale)), y).mean())

    scale = 1.0
    if not number:
        scale = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x))
    with torch.no_grad():
        head.score.weight.copy_(scale * fit.weight.t())
        head.score.bias.copy_(scale * (fit.bias - mean))
        if model.specs[TARGET].num_experts > 1:
            head.held_out[0] = head.loss(scale * held_out, y).mean()
    return weight


def answer_by_states(
    model: GraphFM, bank: GraphBank, nodes: Tensor, asked: Tensor, *, seed: int
) -> Tensor:
    """Predict by a ridge on the states alone, without raw features, to show the trunk's own worth.

    Args:
        model: Result of :func:`adopt`; its head is not used.
        bank: Bank that holds the graph, whose labels are classes.
        nodes: Indices of the training nodes, (n,).
        asked: Indices of the nodes to predict, (Q,).
        seed: Seed of neighbors, and of the sample where there are too many nodes.

    Returns:
        Log-probabilities, (Q, C), with a temperature chosen by leave-one-out.
    """
    nodes = subsample(nodes, MAX_RIDGE_NODES, seed=seed)
    y = bank.y[TARGET][nodes.to(bank.device)]
    states = node_states(model, bank, 0, nodes, seed=seed, **SAMPLING)
    fit = fit_ridge(states, model.head(TARGET).targets(y, model.specs[TARGET].task.num_classes))
    by, _ = choose_temperature(fit.held_out, y)
    states = node_states(model, bank, 0, asked, seed=seed, **SAMPLING)
    return log_probabilities(states @ fit.weight + fit.bias, by)


def fit_pool_weights(model: GraphFM, bank: GraphBank, nodes: Tensor, *, seed: int) -> None:
    """Correct the weights of the experts, and the sharpness of their pool, on validation nodes.

    A head without experts is left as it is.

    Args:
        model: Model whose head is solved; its buffers are set.
        bank: Bank that holds the graph.
        nodes: Indices of validation nodes.
        seed: Seed of neighbors.
    """
    if model.specs[TARGET].num_experts == 1 or not len(nodes):
        return
    head = model.head(TARGET)
    log_probs, answers = expert_log_probs(model, bank, nodes, seed=seed)
    y = bank.y[TARGET][nodes.to(bank.device)]
    offset, sharpness = pool_correction(head, log_probs, answers, y)
    with torch.no_grad():
        head.offset.copy_(offset)
        head.sharpness.copy_(sharpness)


@torch.no_grad()
def expert_log_probs(
    model: GraphFM, bank: GraphBank, nodes: Tensor, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return each expert's log-probabilities (Q, E, C), and the mask of those that answer (Q, E).

    Args:
        model: Fitted model with an ``ExpertHead``.
        bank: Bank that holds the graph and the experts' columns.
        nodes: Indices of the nodes, (Q,).
        seed: Seed of neighbors.
    """
    states = node_states(model, bank, 0, nodes, seed=seed, **SAMPLING)
    columns = torch.cat([states, bank.raw[TARGET][nodes.to(bank.device)]], dim=1)
    found: tuple[Tensor, Tensor] = model.head(TARGET).expert_log_probs(columns)
    return found


def pool_correction(
    head: Any, log_probs: Tensor, answers: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Fit the offsets of the experts' log weights, and the log sharpness of their pool.

    ``min_o sum_v nll(pool_v(o), y_v) + |o|^2 / (2 s^2)``, s = :data:`OFFSET_WIDTH`, half of it for
    the sharpness: few nodes leave both near 0. The search runs in float64 until it converges, so
    that the result does not depend on the order of classes or nodes.

    Args:
        head: An ``ExpertHead``.
        log_probs: Log-probabilities of nodes that no expert was fitted on, (Q, E, C).
        answers: Mask of the experts that answer, (Q, E) bool.
        y: Class of each node, (Q,).

    Returns:
        Offsets (E,), and the sharpness, a scalar.
    """
    log_probs = log_probs.double()
    num_experts, num_classes = log_probs.shape[1:]
    nats = math.log(num_classes)
    free = torch.zeros(
        num_experts + 1, dtype=log_probs.dtype, device=log_probs.device, requires_grad=True
    )
    width = torch.full_like(free, OFFSET_WIDTH)
    width[num_experts] = OFFSET_WIDTH / 2
    search = torch.optim.LBFGS([free], max_iter=100, line_search_fn="strong_wolfe")

    def objective() -> float:
        search.zero_grad()
        logits = head.pool_experts(log_probs, answers, free[:num_experts], free[num_experts])
        loss = nats * head.loss(logits, y).sum() + (free / width).square().sum() / 2
        loss.backward()
        return float(loss.detach())

    search.step(objective)
    found = free.detach()
    return found[:num_experts], found[num_experts]
