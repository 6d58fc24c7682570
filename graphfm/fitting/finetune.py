"""Fit a pretrained model to one graph, at four depths or at the one that validation chooses.

    probe     trunk frozen; closed forms, no gradient step (other depths ask boosted trees too)
    adapter   then the adapter and the head learn (the paper's MFT)
    decoder   then the node decoder too (the paper's NFT)
    full      then everything
    auto      probe, then adapter and decoder as labels and time allow (``training.depth``)

Every depth begins at the probe: a ridge on the states and the raw multi-hop features. In a
prototype it beat twenty gradient steps from a random head almost everywhere, in seconds.

What an estimator calls: ``finetune(prepared, model, ..., tune=, max_steps=, budget=, ensemble=)``
gives a :class:`Fitted`, whose ``model`` is a ``GraphFM`` or, of several members, an ``Ensemble``:
both go into ``calibrate``, ``answer``, ``node_states`` and ``node_logits``. To save it,
``first, more = parted(fitted.model)``: ``first`` is what ``save_checkpoint`` takes, ``more`` joins
its ``extra``. To load it, ``with_members(load_model(path), path)``.

Shapes:
    N  nodes   V  validation nodes
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.fitting.budget import Budget
from graphfm.fitting.calibration import calibrate, split_validation
from graphfm.fitting.cost import check_memory
from graphfm.fitting.depth import AUTO, Tune
from graphfm.fitting.descent import DEPTHS, Depth, validate
from graphfm.fitting.ensemble import joined, members_of
from graphfm.fitting.intervals import calibrate_values
from graphfm.fitting.members import Fitted, _Fit
from graphfm.fitting.probe import (
    SAMPLING,
    TARGET,
    add_experts,
    adopt,
    bank_of,
)
from graphfm.fitting.sizes import sizes_of
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.graph import labelled_nodes
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.batch import subsample
from graphfm.training.state_cloud import StateCloud

__all__ = [
    "DEPTHS",
    "SAMPLING",
    "TARGET",
    "Depth",
    "Fitted",
    "Tune",
    "adopt",
    "bank_of",
    "finetune",
]

log = logging.getLogger(__name__)

MAX_STEPS = 20
MAX_VAL_NODES = 2048  # of the validation part, for early stopping: an error of about 1 point


def finetune(
    prepared: PreparedGraph,
    model: GraphFM,
    *,
    train_mask: Tensor,
    val_mask: Tensor | None = None,
    tune: Tune = "auto",
    max_steps: int = MAX_STEPS,
    budget: Budget | None = None,
    ensemble: int = 1,
    pool: bool = True,
    corpus: StateCloud | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Fitted:
    """Fit to the labels of some nodes; no other label is read.

    Args:
        prepared: The graph.
        model: A pretrained model; it is copied, never changed.
        train_mask: (N,) bool, nodes to learn from.
        val_mask: (N,) bool. One half of them chooses depth and step and fits the temperature, the
            other fits nothing and bounds the prediction sets (``split_validation``). Without them
            ``auto`` is the probe, other depths take the last step, and probabilities stay as they
            are.
        tune: How deep.
        max_steps: Gradient steps; none for ``probe``.
        budget: Time, which runs already. The probe and the calibration are always done; depths,
            steps and members that do not fit are left out, and a warning says which. Without it a
            fit does the same on every machine.
        ensemble: Members, fitted at the depth that the first has chosen.
        pool: Whether experts that read no state answer too. Without them the trunk and the raw
            features answer alone: what a trunk is worth can be seen then, not what is best.
        corpus: Where the states of the pretraining corpus lie.
        seed: Of order, neighbors and dropout.
        progress: Show a bar.

    Raises:
        DataError: GFM131 without a labelled training node, GFM132 with only one class among them,
            GFM149 if it needs more memory than there is, GFM209 for arguments that are none.
        GraphFMError: As the model and its parts.
    """
    budget = budget or Budget(None)
    if tune not in (AUTO, *DEPTHS):
        raise DataError("GFM209", f"tune must be one of {', '.join((AUTO, *DEPTHS))}, got {tune!r}")
    if ensemble < 1:
        raise DataError("GFM209", f"ensemble must be at least 1 member, got {ensemble}")
    nodes = _labelled_nodes(prepared, train_mask)
    device = model.device
    fit_nodes, held_nodes = _val_nodes(prepared, val_mask, seed)
    num_val = len(fit_nodes) + len(held_nodes)
    sizes = sizes_of(prepared, model, num_train=len(nodes), num_val=num_val, pool=pool)
    check_memory(sizes, model, device, ensemble=ensemble, where=prepared.name)
    bank = bank_of(prepared, device)
    experts = None
    if pool:
        experts = add_experts(bank, prepared, nodes, seed=seed, with_trees=tune != "probe")
    fit = _Fit(
        prepared=prepared,
        trunk=model,
        bank=bank,
        experts=experts,
        nodes=nodes,
        val_nodes=subsample(fit_nodes, MAX_VAL_NODES, seed=seed) if len(fit_nodes) else None,
        sizes=sizes,
        max_steps=max_steps,
        ensemble=ensemble,
        budget=budget,
        corpus=corpus,
        seed=seed,
        progress=progress,
    )
    fitted = fit.first(tune)
    members = [*members_of(fitted.model), *fit.others(fitted)]
    fitted.model, fitted.members = joined(members), len(members)
    if len(members) > 1 and fit.val_nodes is not None:
        fitted.val_score = validate(fitted.model, fit.bank, fit.val_nodes, seed).score
    for line in fitted.cut_short:
        log.warning("out of time: %s", line)
    learn = calibrate_values if prepared.task.kind == "regress" else calibrate
    fitted.calibration = learn(
        fitted.model, fit.bank, train=nodes, fit=fit_nodes, held=held_nodes, seed=seed, **SAMPLING
    )
    fitted.scaling, fitted.experts, fitted.bank = fit.bank.scaling, experts, fit.bank
    fitted.model.eval()
    fitted.seconds = budget.spent
    return fitted


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
        same = "number to predict" if y.is_floating_point() else "class"
        raise DataError("GFM132", f"all training nodes have the same {same}", where=prepared.name)
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
