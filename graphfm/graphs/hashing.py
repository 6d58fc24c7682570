"""64-bit hashes as numpy arrays, the same on every machine and in every process."""

from __future__ import annotations

import numpy as np


def splitmix64(values: np.ndarray) -> np.ndarray:
    """Finalizer of SplitMix64: each bit of an integer changes each bit of its hash.

    Args:
        values: Integers of any shape; negative ones wrap modulo 2^64.

    Returns:
        Hashes of the same shape, uint64.

    >>> [hex(value) for value in splitmix64(np.array([0, 1]))]
    ['0xe220a8397b1dcdaf', '0x910a2dec89025cc1']
    """
    z = np.array(values).astype(np.uint64)
    z += np.uint64(0x9E3779B97F4A7C15)
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
