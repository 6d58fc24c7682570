"""The model: GraphFM and the parts that it is built from."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphfm.model.graphfm import GraphFM as GraphFM


def __getattr__(name: str) -> Any:
    # Imported when asked for: a recipe lists the parts below this package without torch.
    if name != "GraphFM":
        raise AttributeError(f"module 'graphfm.model' has no attribute {name!r}")
    from graphfm.model.graphfm import GraphFM

    return GraphFM
