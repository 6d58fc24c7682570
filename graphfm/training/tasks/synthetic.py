"""Synthetic targets: random functions of latents that spread over the edges.

Latents are noise, smooth functions of the positions, and blocks. Layers of random functions follow;
after a layer some variables are diffused, sharpened, compared with the neighborhood, spread by
thresholds, or mixed by degree. Labels are functions of the last layer, features of any layer.

Shapes:
    N  nodes   V  variables   F  columns   C  classes
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import sparse

from graphfm.graphs.features.neighbor_mean import mean_matrix
from graphfm.training.tasks.columns import bin_values
from graphfm.training.tasks.structures import Structure
from graphfm.training.tasks.task import Target, tidy_classes

NO_FEATURES = 0.08  # share of tasks without features
FLIPPED = 0.4  # share of tasks with wrong labels, up to 20% of them
FUNCTIONS: tuple[Callable[[np.ndarray], np.ndarray], ...] = (
    lambda v: v,
    np.tanh,
    lambda v: np.maximum(v, 0),
    lambda v: np.sign(v - 0.3),
    lambda v: np.sin(2 * v),
    np.abs,
    lambda v: v * np.roll(v, 1, axis=1),
    lambda v: (v > 0) * 1.0 + (v > 1),
)


def make(structure: Structure, rng: np.random.Generator) -> Target | None:
    """Draw features and labels on a structure; None if the labels have one class only."""
    mean = mean_matrix(structure.rowptr, structure.col)
    layers = [_latents(structure, rng)]
    for _ in range(int(rng.integers(1, 4))):
        values = _standard(FUNCTIONS[rng.integers(len(FUNCTIONS))](_mix(layers[-1], rng)))
        if rng.random() < 0.75:
            some = rng.random(values.shape[1]) < rng.random()
            values[:, some] = _spread(values[:, some], mean, structure, rng)
        values = _standard(values)
        layers.append(values + np.exp(rng.uniform(-4, -1.2)) * rng.normal(size=values.shape))
    y = tidy_classes(_labels(layers[-1], rng))
    if y.max() < 1:
        return None
    if rng.random() < FLIPPED:
        flipped = rng.random(len(y)) < rng.uniform(0, 0.2)
        y = np.where(flipped, rng.permutation(y), y)
    return Target(x=_features(layers, rng), y=y)


def _latents(structure: Structure, rng: np.random.Generator) -> np.ndarray:
    """Noise, smooth functions and blocks in random proportions, (N, V)."""
    n, width = structure.num_nodes, int(rng.integers(4, 17))
    latents = rng.normal(size=(n, width))
    pe = structure.pe.numpy()
    smooth = np.arcsinh(pe[:, : (pe.shape[1] - 2) // 2])
    few = smooth[:, : int(rng.integers(2, smooth.shape[1] + 1))]
    latents += rng.choice([0, 1, 2, 4]) * few @ rng.normal(size=(few.shape[1], width)) / 2
    latents += rng.choice([0, 0, 0.3]) * np.log1p(pe[:, -2:-1]) * rng.normal(size=width)
    if structure.blocks is not None:
        blocks = rng.normal(size=(structure.blocks.max() + 1, width))
        latents += rng.uniform(0, 3) * blocks[structure.blocks]
    if structure.x is not None and structure.x.shape[1] and rng.random() < 0.5:
        x = structure.x[:, :32]
        latents += rng.uniform(0, 1) * x @ rng.normal(size=(x.shape[1], width))
    return _standard(latents)


def _mix(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sparse random linear map to 6 to 24 variables, (N, V)."""
    weight = rng.normal(size=(values.shape[1], int(rng.integers(6, 25))))
    weight *= rng.random(weight.shape) < rng.uniform(0.1, 0.5)
    return _standard(values @ weight + 1e-3 * rng.normal(size=(1, weight.shape[1])))


def _spread(
    values: np.ndarray, mean: sparse.csr_array, structure: Structure, rng: np.random.Generator
) -> np.ndarray:
    """Let variables act over the edges in one random way, (N, V)."""
    kind = rng.choice(["diffuse", "diffuse", "difference", "threshold", "degree", "softmax"])
    now = values.astype(np.float32)
    if kind == "diffuse":
        keep = rng.uniform(0.05, 0.85)
        for _ in range(int(rng.integers(1, 6))):
            now = keep * now + (1 - keep) * (mean @ now)
    elif kind == "difference":
        now = now - rng.uniform(0.3, 1) * (mean @ now)
    elif kind == "threshold":
        active = now > np.quantile(now, rng.uniform(0.7, 0.95), axis=0)
        level = rng.uniform(0.15, 0.55)
        for _ in range(int(rng.integers(1, 6))):
            active |= mean @ active.astype(np.float32) > level
        now = active + 0.1 * now
    elif kind == "degree":
        size = structure.pe.numpy()[:, -2:-1]
        gate = 1 / (1 + np.exp(-(size - np.median(size)) * rng.normal(0, 2)))
        now = gate * (mean @ now) + (1 - gate) * now
    else:
        weight = np.exp(np.clip(rng.uniform(1, 3) * now, -8, 8))
        now = (mean @ (weight * now)) / np.maximum(mean @ weight, 1e-3)
    return now


def _labels(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Threshold one variable, take the largest of several, the nearest prototype, or a leaf."""
    kind = rng.random()
    num_classes = min(10, 2 + int(rng.exponential(2.5)))
    if kind < 0.35:
        return bin_values(values[:, rng.integers(values.shape[1])], rng)
    if kind < 0.65:
        scores = _mix(values, rng)[:, :num_classes]
        found: np.ndarray = (scores + rng.normal(0, 0.5, scores.shape[1])).argmax(axis=1)
        return found
    if kind < 0.85:
        centers = values[rng.choice(len(values), size=min(len(values), 2 * num_classes))]
        distance = (centers**2).sum(axis=1) / 2 - values @ centers.T
        nearest: np.ndarray = distance.argmin(axis=1) % num_classes
        return nearest
    depth = int(rng.integers(1, 4))
    chosen = values[:, rng.choice(values.shape[1], size=depth)]
    bits = chosen > np.quantile(chosen, rng.uniform(0.3, 0.7), axis=0)
    leaf: np.ndarray = bits @ (1 << np.arange(depth))
    return leaf


def _features(layers: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Columns of some variables: as they are, rotated into more columns, or as words, (N, F)."""
    n = len(layers[0])
    if rng.random() < NO_FEATURES:
        return np.zeros((n, 0), np.float32)
    values = np.concatenate(layers[: 1 + int(rng.integers(len(layers)))], axis=1)
    width = int(np.exp(rng.uniform(np.log(2), np.log(100))))
    kind = rng.random()
    if kind < 0.4:
        columns = values[:, rng.permutation(values.shape[1])[:width]]
    else:
        columns = _standard(values @ rng.normal(size=(values.shape[1], width)))
    nuisance = rng.normal(size=(n, int(rng.integers(0, 1 + columns.shape[1] // 3))))
    columns = np.concatenate([columns, nuisance], axis=1)
    columns = columns + np.exp(rng.uniform(-4, 0.0)) * rng.normal(size=columns.shape)
    if kind > 0.7:
        columns = (columns > rng.uniform(0, 2, columns.shape[1])) * 1.0
    return columns.astype(np.float32)


def _standard(values: np.ndarray) -> np.ndarray:
    """Scale variables to mean 0 and deviation 1, cut at 6."""
    scaled = (values - values.mean(axis=0)) / (values.std(axis=0) + 1e-6)
    cut: np.ndarray = np.clip(scaled, -6, 6)
    return cut
