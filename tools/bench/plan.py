"""TODO: tools/bench/plan.py, from graphfm/sampling/plan.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def padding(counts: Sequence[int], buckets: Sequence[int]) -> float:
    """Share of slots that hold padding where every count is rounded up to a bucket.

    A count above the largest bucket stays as it is. Without buckets there is no padding at all.

    >>> padding([3, 4, 8], buckets=[4, 16])
    0.375
    """
    filled, sizes = np.asarray(counts), np.sort(np.asarray(buckets, dtype=np.int64))
    place = np.searchsorted(sizes, filled)
    above = place == len(sizes)
    slots = np.where(above, filled, np.append(sizes, 0)[place])
    return float(1 - filled.sum() / max(1, slots.sum()))
