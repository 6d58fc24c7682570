"""GraphFM and the parts that it is built from."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.model.graphfm import GraphFM as GraphFM


def __getattr__(name: str) -> Any:
    # Imported on first use: reading a recipe lists the parts in this package, without torch.
    if name != "GraphFM":
        raise AttributeError(f"module 'graphfm.model' has no attribute {name!r}")
    from graphfm.model.graphfm import GraphFM

    return GraphFM
