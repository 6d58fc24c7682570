"""Plan of a fit, for ``graphfm finetune --dry-run``: nothing is fitted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph


GIB = 2**30


def fit_plan(whole: Graph, asked: Mapping[str, Any], *, device: str) -> dict[str, Any]:
    """Return labels, split, depths, parameters, memory and seconds of a fit.

    Args:
        whole: Graph with its split.
        asked: Arguments of the fit: ``from``, ``tune``, ``max_steps``, ``max_time``, ``ensemble``
            and ``seed``.
        device: Device of the fit.

    Raises:
        DataError: Whatever the fit would refuse: GFM131 and GFM132 for too few labels or classes.
        MemoryLimitError: GFM149 if it needs more memory than is free.
    """
    from graphfm.checkpoint.pretrained import weights_name
    from graphfm.fitting.calibration import num_choosing
    from graphfm.fitting.cost import check_memory, seconds_of
    from graphfm.fitting.depth import AUTO, depths_to_try
    from graphfm.fitting.descent import DEPTHS, Depth
    from graphfm.fitting.finetune import MAX_STEPS, training_nodes
    from graphfm.fitting.sizes import sizes_of
    from graphfm.machine import memory_left, pick_device
    from graphfm.model.graphfm import GraphFM

    model = GraphFM.from_pretrained(asked["from"], seed=asked["seed"])
    assert whole.train_mask is not None
    training_nodes(whole, whole.train_mask)
    labelled = whole.labelled
    counts = {
        part: int((mask & labelled).sum())
        for part in ("train", "val", "test")
        if (mask := getattr(whole, f"{part}_mask")) is not None
    }
    steps = MAX_STEPS if asked["max_steps"] is None else asked["max_steps"]
    deeper: tuple[Depth, ...] = ()
    left_out = "asked for"
    if asked["tune"] == AUTO:
        deeper, left_out = depths_to_try(counts["train"], num_choosing(counts.get("val", 0)))
    elif asked["tune"] != DEPTHS[0]:
        deeper = (asked["tune"],)
    depths = (DEPTHS[0], *(deeper if steps else ()))
    where = pick_device(device)
    sizes = sizes_of(
        whole,
        model,
        num_train=counts["train"],
        num_val=counts.get("val", 0),
        with_trees=asked["tune"] != DEPTHS[0],
    )
    needed = check_memory(sizes, model, where, ensemble=asked["ensemble"], where=whole.name)
    seconds = seconds_of(
        sizes, model, depths, max_steps=steps, ensemble=asked["ensemble"], device=where
    )
    params = model.num_params()
    return {
        "num_nodes": whole.num_nodes,
        "num_labelled": int(labelled.sum()),
        "task": whole.task.kind,
        "num_classes": whole.num_classes,
        **counts,
        "depths": list(depths),
        "depths_left_out": left_out,
        "steps": steps,
        "weights": weights_name(model, asked["from"]),
        "params_trunk": params["trunk"],
        "params_head": (model.shape.dim + sizes.num_raw + 1) * sizes.num_classes,
        "memory_gib": round(needed / GIB, 2),
        "memory_free_gib": round(memory_left(where) / GIB, 2),
        "seconds": round(
            min(seconds, asked["max_time"] or seconds) + (seconds if asked.get("refit_all") else 0),
            1,
        ),
    }
