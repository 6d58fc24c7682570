"""Fit again on every label, at the depth and the step that validation nodes chose before."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from graphfm.fitting.depth import Tune
from graphfm.fitting.ensemble import Ensemble, members_of
from graphfm.fitting.finetune import finetune
from graphfm.fitting.fitted import Fitted
from graphfm.fitting.probe import TARGET
from graphfm.graphs.features.prepare import PreparedGraph
from graphfm.log_lines import collect_log_lines
from graphfm.model.graphfm import GraphFM

CORRECTION = ("offset", "sharpness")  # buffers of a head that validation nodes set


def refit(
    before: GraphFM | Ensemble,
    prepared: PreparedGraph,
    model: GraphFM,
    *,
    labelled: Tensor,
    tune: Tune,
    steps: int,
    seed: int,
    progress: bool = False,
) -> Fitted:
    """Fit to all labelled nodes, without validation nodes.

    The weights of the experts keep the correction that validation nodes gave them before.

    Args:
        before: The fitted model that was validated.
        prepared: Its graph.
        model: The pretrained model that the fit begins with.
        labelled: Labelled nodes, (N,) bool.
        tune: Depth of the fit before.
        steps: Number of gradient steps that it kept.
        seed: Seed of the fit before.
        progress: If true, show progress bars.
    """
    members = members_of(before)
    # Its warnings repeat those of the fit before, or miss validation nodes that are not needed.
    with collect_log_lines(logging.WARNING, quiet=True):
        fitted = finetune(
            prepared,
            model,
            train_mask=labelled,
            tune=tune,
            max_steps=steps,
            ensemble=len(members),
            seed=seed,
            progress=progress,
        )
    with torch.no_grad():
        for old, new in zip(members, members_of(fitted.model), strict=True):
            for name in CORRECTION:
                own, given = (getattr(m.head(TARGET), name, None) for m in (new, old))
                if own is not None and given is not None and own.shape == given.shape:
                    own.copy_(given)
    return fitted
