"""Loss of a pretrained trunk on graphs that were not in its corpus, after a short fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graphfm.config.recipe import Recipe
from graphfm.errors import DataError

SPLIT = (0.5, 0.25, 0.25)  # shares of training, validation and test nodes of an unseen graph
MOST_NODES = (2048, 1024, 2048)  # limit of each part; all nodes would take twice as long


def check_unseen(unseen: Sequence[str], recipe: Recipe, *, where: str) -> None:
    """Refuse unseen graphs that are in a recipe's corpus, or whose group is.

    Args:
        unseen: Ids of the graphs.
        recipe: Recipe of the runs; its ``data.graph_share`` is taken as 1.
        where: Name of the grid, for the message.

    Raises:
        DataError: GFM147 if any graph is in the corpus.
    """
    from graphfm.graphs.audit.audit import not_judged_on
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.training.pretrain import choose_graphs

    catalog = Catalog.read()
    whole = recipe.model_copy(update={"data": recipe.data.model_copy(update={"graph_share": 1.0})})
    seen = set(unseen) & set(not_judged_on(choose_graphs(whole, catalog), catalog))
    if seen:
        raise DataError(
            "GFM147",
            f"{', '.join(sorted(seen))}: listed as unseen, but the corpus has them or their group",
            where=where,
            fix="remove them from unseen, or from the corpus: changes: {data.exclude: [...]}",
        )


def judge_unseen(
    folder: Path, unseen: Sequence[str], *, steps: int, seed: int, device: str
) -> Iterator[dict[str, float | str]]:
    """Yield loss / log C and accuracy on the test nodes of each graph, after a short fit.

    The fit uses no pool of experts, which would hide differences between trunks. Keys that begin
    with ``states_`` are those of a closed form on the states alone.

    Args:
        folder: Run or checkpoint folder of the trunk.
        unseen: Ids of the graphs.
        steps: Gradient steps of the fit, at depth ``decoder``.
        seed: Seed of the split and of the fit.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """
    import torch

    from graphfm.fitting.finetune import finetune
    from graphfm.fitting.inference import node_logits
    from graphfm.fitting.probe import SAMPLING, adopt, answer_by_states
    from graphfm.graphs.catalog.catalog import Catalog
    from graphfm.graphs.graph import labelled_nodes
    from graphfm.graphs.prepare_many import prepare_many
    from graphfm.graphs.splits import stratified_split
    from graphfm.machine import pick_device
    from graphfm.model.graphfm import GraphFM
    from graphfm.sampling.batch import subsample

    where = pick_device(device)
    model = GraphFM.from_checkpoint(folder).to(where)
    for prepared in prepare_many(list(unseen), Catalog.read()):
        assert prepared.y is not None
        known = labelled_nodes(prepared.y)
        parts = stratified_split(prepared.y, SPLIT, seed=seed, ids=prepared.node_ids)
        train, val, test = (
            subsample((part & known).nonzero().flatten(), most, seed=seed)
            for part, most in zip(parts, MOST_NODES, strict=True)
        )
        fitted = finetune(
            prepared,
            model,
            train_mask=torch.zeros_like(known).index_fill_(0, train, True),
            val_mask=torch.zeros_like(known).index_fill_(0, val, True),
            tune="decoder",
            max_steps=steps,
            pool=False,
            seed=seed,
        )
        bank = fitted.bank
        assert bank is not None
        logits = node_logits(fitted.model, bank, 0, test, seed=seed, **SAMPLING)
        fresh = adopt(model, prepared, bank)
        states = answer_by_states(fresh, bank, train, test, seed=seed)
        yield {
            "graph": prepared.name,
            **score(logits, prepared.y[test]),
            **{f"states_{key}": v for key, v in score(states, prepared.y[test]).items()},
        }


def score(logits: Any, y: Any) -> dict[str, float]:
    """Return loss / log C and accuracy of logits (Q, C) for labels (Q,)."""
    import torch

    from graphfm.metrics import accuracy

    logits = logits.cpu().double()
    loss = float(torch.nn.functional.cross_entropy(logits, y))
    return {
        "loss": loss / math.log(logits.shape[1]),
        "accuracy": accuracy(y.numpy(), logits.numpy()),
    }
