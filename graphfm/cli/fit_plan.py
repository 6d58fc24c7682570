"""``graphfm finetune --dry-run``: what a fit would do and need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


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
