"""Fit a pretrained model to one graph, at four depths or at the one that validation chooses.

    probe     closed forms on the frozen trunk, no gradient step (other depths add boosted trees)
    adapter   then the adapter and the head are trained (the paper's MFT)
    decoder   then the node decoder too (the paper's NFT)
    full      then all weights
    auto      probe, then adapter and decoder as labels and time allow (``fitting.depth``)

Every depth begins at the probe: a ridge on the node states and the raw multi-hop features. In a
prototype it beat twenty gradient steps from a random head almost everywhere, in seconds.

Shapes:
    N  nodes
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from graphfm.errors import DataError
from graphfm.fitting.budget import Budget
from graphfm.fitting.calibration import calibrate, split_validation
from graphfm.fitting.depth import AUTO, Tune
from graphfm.fitting.descent import DEPTHS, validate
from graphfm.fitting.ensemble import join_members, members_of
from graphfm.fitting.fitted import Fitted
from graphfm.fitting.intervals import calibrate_values
from graphfm.fitting.members import FitSetup, fit_deeper, fit_other_members, fit_probe
from graphfm.fitting.probe import SAMPLING, add_experts, bank_of
from graphfm.fitting.sizes import sizes_of
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.graphs.graph import Graph, labelled_nodes
from graphfm.machine import one_thread_if_small
from graphfm.model.graphfm import GraphFM
from graphfm.sampling.batch import subsample
from graphfm.training.state_cloud import StateCloud

log = logging.getLogger(__name__)

MAX_STEPS = 20
MAX_VAL_NODES = 2048  # for early stopping: a standard error of about 1 point


@one_thread_if_small(0)
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
    """Fit a model to the labels of the training nodes; no other label is read.

    Args:
        prepared: The graph.
        model: A pretrained model; it is copied, never changed.
        train_mask: Training nodes, (N,) bool.
        val_mask: Validation nodes, (N,) bool. One half chooses depth and step and fits the
            temperature; the other half sets the thresholds of prediction sets
            (``split_validation``). Without them ``auto`` is the probe, other depths take all steps,
            and probabilities are not calibrated.
        tune: Depth of the fit. Default: ``auto``.
        max_steps: Largest number of gradient steps. Default: 20.
        budget: Time limit, already running. The probe and the calibration are always done. Depths,
            steps and members that would exceed it are left out, with a warning. Without one a fit
            gives the same result on every machine. Default: none.
        ensemble: Number of members, fitted at the depth that the first has chosen. Default: 1.
        pool: If true, experts that do not read node states predict too. False shows what the trunk
            and the raw features are worth alone.
        corpus: States of the pretraining corpus. Default: unknown.
        seed: Seed of node order, neighbors and dropout.
        progress: If true, show progress bars.

    Raises:
        DataError: GFM131 without a labelled training node, GFM132 with only one class among them,
            GFM209 for an argument out of range.
        GraphFMError: Errors of the model and its parts.
    """
    budget = budget or Budget(None)
    if tune not in (AUTO, *DEPTHS):
        raise DataError("GFM209", f"tune must be one of {', '.join((AUTO, *DEPTHS))}, got {tune!r}")
    if ensemble < 1:
        raise DataError("GFM209", f"ensemble must be at least 1 member, got {ensemble}")
    nodes = training_nodes(prepared, train_mask)
    choosing, calibrating = _validation_nodes(prepared, val_mask, seed)
    sizes = sizes_of(
        prepared,
        model,
        num_train=len(nodes),
        num_val=len(choosing) + len(calibrating),
        pool=pool,
    )

    # The graph, and the columns that its head reads: raw features and predictions of experts.
    bank = bank_of(prepared, model.device)
    experts = None
    if pool:
        experts = add_experts(bank, prepared, nodes, seed=seed, with_trees=tune != "probe")
    val_nodes = subsample(choosing, MAX_VAL_NODES, seed=seed) if len(choosing) else None
    setup = FitSetup(
        prepared=prepared,
        trunk=model,
        bank=bank,
        experts=experts,
        nodes=nodes,
        val_nodes=val_nodes,
        sizes=sizes,
        max_steps=max_steps,
        ensemble=ensemble,
        budget=budget,
        corpus=corpus,
        seed=seed,
        progress=progress,
    )

    # Closed forms; then gradient steps, kept where validation nodes prefer them.
    probe = fit_probe(setup)
    fitted = fit_deeper(setup, probe, tune)

    # Further members at the same depth; the model predicts the mean of all.
    members = [*members_of(fitted.model), *fit_other_members(setup, probe, fitted)]
    fitted.model, fitted.members = join_members(members), len(members)
    if len(members) > 1 and val_nodes is not None:
        fitted.val_score = validate(fitted.model, bank, val_nodes, seed).score
    for line in fitted.cut_short:
        log.warning("out of time: %s", line)

    # Temperature, from the nodes that chose; thresholds, from those that did not.
    learn = calibrate_values if prepared.task.kind == "regress" else calibrate
    fitted.calibration = learn(
        fitted.model, bank, train=nodes, fit=choosing, held=calibrating, seed=seed, **SAMPLING
    )
    fitted.scaling, fitted.experts, fitted.bank = bank.scaling, experts, bank
    fitted.model.eval()
    fitted.seconds = budget.spent
    return fitted


def training_nodes(graph: Graph | PreparedGraph, mask: Tensor) -> Tensor:
    """Return the indices of the labelled training nodes, ascending.

    Raises:
        DataError: GFM131 with fewer than 2 of them, GFM132 with only one class among them.
    """
    y = graph.y
    if y is None:
        raise DataError("GFM131", "the graph has no labels to learn from", where=graph.name)
    nodes = (mask & labelled_nodes(y)).nonzero().flatten()
    if len(nodes) < 2:
        raise DataError(
            "GFM131",
            f"fitting needs at least 2 labelled training nodes, got {len(nodes)}",
            where=graph.name,
        )
    if y.ndim == 1 and len(y[nodes].unique()) < 2:
        same = "number to predict" if y.is_floating_point() else "class"
        raise DataError("GFM132", f"all training nodes have the same {same}", where=graph.name)
    return nodes


def _validation_nodes(
    prepared: PreparedGraph, mask: Tensor | None, seed: int
) -> tuple[Tensor, Tensor]:
    """Indices of labelled validation nodes, ascending: those that choose, those that calibrate."""
    none = torch.zeros(0, dtype=torch.int64)
    if mask is None or prepared.y is None:
        return none, none
    nodes = (mask & labelled_nodes(prepared.y)).nonzero().flatten()
    ids = prepared.node_ids
    names = [str(i) if ids is None else ids[i] for i in nodes.tolist()]
    choosing, calibrating = split_validation(names, seed=seed)
    return nodes[torch.from_numpy(choosing)], nodes[torch.from_numpy(calibrating)]
