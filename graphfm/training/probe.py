"""Where every fit begins: a trunk that has taken in one graph, its head solved in closed form.

Shapes:
    N  nodes   R  raw columns   D  width   C  classes
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from graphfm.graphs.prepare import PreparedGraph
from graphfm.graphs.spec import GraphSpec
from graphfm.model import GraphFM
from graphfm.sampling.bank import GraphBank
from graphfm.sampling.batch import some_of
from graphfm.training.inference import node_states
from graphfm.training.multihop import Scaling, scaled_multihop
from graphfm.training.ridge import fit_ridge

TARGET = "target"  # the name that a fitted model gives to its graph
NUM_NEIGHBORS = 16
MAX_CONTEXT = 4096
SAMPLING = {"num_neighbors": NUM_NEIGHBORS, "max_context": MAX_CONTEXT}
STATE_WEIGHTS = (0.0, 0.3, 1.0, 3.0)  # of the state beside raw features, chosen by leave-one-out
MAX_RIDGE_NODES = 20_000  # the closed form costs nodes x columns^2: 15 s at 20,000 x 900


def bank_of(
    prepared: PreparedGraph, device: torch.device, *, like: Scaling | None = None
) -> GraphBank:
    """A bank of one graph, under the name :data:`TARGET`, with the raw features its head reads.

    Args:
        prepared: The graph.
        device: Where the bank lies.
        like: ``scaling`` of the bank that a model was fitted on; None = fit.
    """
    renamed = copy.copy(prepared)
    object.__setattr__(renamed, "name", TARGET)
    raw, scaling = scaled_multihop(prepared, like)
    return GraphBank([renamed], raw={TARGET: raw}, scaling=scaling, device=device)


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
    number = model.specs[TARGET].task.kind == "regress"
    if number:
        head.begin(y)
    targets = head.targets(y, model.specs[TARGET].task.num_classes)
    fits = {w: fit_ridge(torch.cat([w * states, raw], dim=1), targets) for w in STATE_WEIGHTS}
    weight = min(fits, key=lambda w: fits[w].error)
    fit = fits[weight]
    # Least squares fits a number as it is; scores of classes need a scale, and not their mean.
    mean = 0.0 if number else fit.held_out.mean()
    held_out = (fit.held_out - mean).double()

    def loss(log_scale: float) -> float:
        return float(head.loss(held_out * float(np.exp(log_scale)), y).mean())

    scale = 1.0
    if not number:
        scale = float(np.exp(minimize_scalar(loss, bounds=(-2.0, 5.0), method="bounded").x))
    with torch.no_grad():
        head.score.weight.copy_(scale * fit.weight.t())
        head.score.weight[:, : states.shape[1]] *= weight
        head.score.bias.copy_(scale * (fit.bias - mean))
    return weight
