"""Text of ``graphfm finetune --dry-run``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plan_lines(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the name and the text of each line of a plan.

    Args:
        plan: Values of :func:`graphfm.fitting.dry_run.fit_plan`, the options of the fit, ``out``.
    """
    parts = [f"{plan[part]:,} {part}" for part in ("train", "val", "test") if part in plan]
    deeper = plan["depths"][1:]
    depth = ", then ".join(plan["depths"])
    if deeper:
        depth += f" (at most {plan['steps']} steps"
        depth += "; the best on validation nodes is kept)" if plan["tune"] == "auto" else ")"
    if plan["depths_left_out"] and plan["tune"] == "auto":
        depth += f"; {plan['depths_left_out']}"
    members = plan["ensemble"]
    return {
        "labels": f"{plan['num_labelled']:,} of {plan['num_nodes']:,} nodes, "
        + ("a number" if plan["task"] == "regress" else f"{plan['num_classes']:,} classes"),
        "split": " / ".join(parts) + f", seed {plan['seed']}",
        "weights": plan["weights"],
        "depth": depth,
        **({"members": str(members)} if members > 1 else {}),
        "parameters": (
            f"{plan['params_trunk']:,} in the pretrained part, {plan['params_head']:,} in the head"
        ),
        "memory": f"about {plan['memory_gib']:.2f} GiB of {plan['memory_free_gib']:.2f} GiB free",
        "time": f"about {plan['seconds']:.0f} s, without reading and preparing the graph",
        "out": plan["out"],
    }
