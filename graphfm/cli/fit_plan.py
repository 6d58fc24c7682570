"""``graphfm finetune --dry-run``: what a fit would do and need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.graphs.graph import Graph

GIB = 2**30


def fit_plan(whole: Graph, asked: Mapping[str, Any], *, device: str) -> dict[str, Any]:
    """Labels, split, depths, parameters, memory and seconds of a fit.

    Args:
        whole: The graph, with its split.
        asked: ``from``, ``tune``, ``max_steps``, ``max_time``, ``ensemble`` and ``seed``.
        device: Where it would be fitted.

    Raises:
        DataError: GFM149 if it needs more memory than there is.
    """
    from graphfm.finetune import MAX_STEPS
    from graphfm.hub import pretrained
    from graphfm.training.calibration import num_choosing
    from graphfm.training.depth import AUTO, depths_to_try
    from graphfm.training.descent import DEPTHS, Depth
    from graphfm.training.fit_cost import check_memory, memory_left, seconds_of, sizes_of
    from graphfm.training.loop import pick_device

    model = pretrained(asked["from"], seed=asked["seed"])
    labelled = whole.labelled
    counts = {
        part: int((mask & labelled).sum())
        for part in ("train", "val", "test")
        if (mask := getattr(whole, f"{part}_mask")) is not None
    }
    steps = MAX_STEPS if asked["max_steps"] is None else asked["max_steps"]
    deeper: tuple[Depth, ...] = ()
    why_not = "asked for"
    if asked["tune"] == AUTO:
        deeper, why_not = depths_to_try(counts["train"], num_choosing(counts.get("val", 0)))
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
        "depths_left_out": why_not,
        "steps": steps,
        "weights": model.about.get("name", "random"),
        "params_trunk": params["trunk"],
        "params_head": (model.shape.dim + sizes.num_raw + 1) * sizes.num_classes,
        "memory_gib": round(needed / GIB, 2),
        "memory_free_gib": round(memory_left(where) / GIB, 2),
        "seconds": round(min(seconds, asked["max_time"] or seconds), 1),
    }


def plan_lines(plan: Mapping[str, Any]) -> dict[str, str]:
    """A plan as a person reads it: name and value of each line."""
    parts = [f"{plan[part]:,} {part}" for part in ("train", "val", "test") if part in plan]
    deeper = plan["depths"][1:]
    depth = ", then ".join(plan["depths"])
    if deeper:
        depth += f" ({plan['steps']} steps at most"
        depth += "; validation nodes choose)" if plan["tune"] == "auto" else ")"
    if plan["depths_left_out"] and plan["tune"] == "auto":
        depth += f"; {plan['depths_left_out']}"
    members = plan["ensemble"]
    return {
        "labels": f"{plan['num_labelled']:,} of {plan['num_nodes']:,} nodes, "
        + ("a number" if plan["task"] == "regress" else f"{plan['num_classes']:,} classes"),
        "split": " / ".join(parts) + f", seed {plan['seed']}",
        "begins with": "a random trunk" if plan["weights"] == "random" else plan["weights"],
        "depth": depth,
        **({"members": str(members)} if members > 1 else {}),
        "parameters": f"{plan['params_trunk']:,} in the trunk, {plan['params_head']:,} in the head",
        "memory": f"about {plan['memory_gib']:.2f} GiB of {plan['memory_free_gib']:.2f} GiB free",
        "time": f"about {plan['seconds']:.0f} s, reading and preparing the graph not counted",
        "out": plan["out"],
    }
