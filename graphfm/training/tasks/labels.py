"""Targets from the real labels of corpus graphs."""

from __future__ import annotations

import numpy as np

from graphfm.training.tasks.structures import Structure
from graphfm.training.tasks.task import Target, tidy_classes

MAX_CLASSES = 40  # more than of a made target: real graphs have many
MAX_COLUMNS = 96  # leading axes of the transformed features


def make(structure: Structure, rng: np.random.Generator) -> Target | None:
    """Return the labels of the part; None if it has fewer than two classes."""
    if structure.y is None or structure.x is None:
        return None
    y = tidy_classes(structure.y, most=MAX_CLASSES)
    if y.max() < 1:
        return None
    most = int(rng.choice([0, 16, MAX_COLUMNS, MAX_COLUMNS, MAX_COLUMNS]))
    return Target(x=structure.x[:, :most], y=y, prepared=True)
