"""Labels as numbers and text, and class names in the type that the user gave.

Shapes:
    N  nodes   C  classes
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from graphfm.graphs.labels import labels


def encode_labels(y: Any) -> tuple[Tensor | None, tuple[str, ...]]:
    """Number the labels (N,) of a graph, numbers or text; None, NaN and -1 = unlabelled."""
    values = np.asarray(y)
    if values.dtype.kind in "biuf":
        return labels(values.astype(np.int64) if values.dtype.kind in "bu" else values,
                      task="classify")  # fmt: skip
    words = [None if v is None or v != v else str(v) for v in values.tolist()]
    names = sorted({word for word in words if word is not None})
    number = {name: i for i, name in enumerate(names)}
    return torch.tensor([-1 if w is None else number[w] for w in words]), tuple(names)
