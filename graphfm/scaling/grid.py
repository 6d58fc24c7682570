"""Grid of pretraining runs: sizes x shares of the data x seeds, each at several lengths.

Parameters, the share of every graph's training nodes and the share of the graphs grow separately.
In a grid where they grow together, their effects could not be separated.

A cell is one (size, nodes, graphs, seed). Its runs have a warm-up-stable-decay schedule: a longer
run continues from the checkpoint at which the shorter one began to decay. All lengths cost little
more than the longest, and each equals the uninterrupted run of its length, bit for bit.
"""

from __future__ import annotations

import itertools
import json
import logging
import multiprocessing
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator
from tqdm import tqdm

from graphfm.config.load import load_recipe
from graphfm.config.parts import StrictConfig, validated
from graphfm.config.recipe import Recipe
from graphfm.config.yaml_text import read_yaml
from graphfm.errors import GraphFMError
from graphfm.scaling.unseen import check_unseen, judge_unseen

log = logging.getLogger(__name__)


class GridConfig(StrictConfig):
    """Contents of the YAML file of a grid."""

    name: str
    about: str = ""
    recipe: str
    """Pretraining recipe of all runs."""
    changes: dict[str, Any] = {}
    """``key: value`` in the recipe's keys, for all runs."""
    sizes: dict[str, dict[str, Any]] = Field(min_length=1)
    """Changes of each size, by its name."""
    nodes: tuple[float, ...] = (1.0,)
    """Shares of every graph's training nodes; all graphs."""
    graphs: tuple[float, ...] = ()
    """Shares of the graphs; all of their nodes."""
    steps: tuple[int, ...] = Field(min_length=1)
    """Lengths of a run, ascending."""
    seeds: tuple[int, ...] = (0,)
    unseen: tuple[str, ...] = ()
    """Graphs that no run has seen, to which the longest run of each cell is fitted."""
    unseen_steps: int = Field(default=20, ge=0)
    """Gradient steps of that fit, at depth ``decoder``."""

    @model_validator(mode="after")
    def _check(self) -> GridConfig:
        if list(self.steps) != sorted(set(self.steps)):
            raise ValueError(f"steps must ascend, got {list(self.steps)}")
        return self


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model on one part of the data. Its runs differ in length only."""

    size: str
    nodes: float
    graphs: float
    seed: int

    @property
    def name(self) -> str:
        """Name of the folder."""
        return f"{self.size}-nodes{self.nodes:g}-graphs{self.graphs:g}-seed{self.seed}"


def read_grid(path: str | Path) -> GridConfig:
    """Read and check a grid.

    Raises:
        RecipeError: GFM201 to GFM205 for an invalid grid, GFM205 for a file that is not YAML.
    """
    config: GridConfig = validated(GridConfig, read_yaml(Path(path)))
    for cell in cells(config):
        recipe_of(config, cell, config.steps[-1])
    return config


def cells(config: GridConfig) -> list[Cell]:
    """Return all cells; a share of nodes is combined with all graphs, and the reverse."""
    parts = [(share, 1.0) for share in config.nodes] + [(1.0, share) for share in config.graphs]
    return [
        Cell(size=size, nodes=nodes, graphs=graphs, seed=seed)
        for seed, size, (nodes, graphs) in itertools.product(
            config.seeds, config.sizes, dict.fromkeys(parts)
        )
    ]


def recipe_of(config: GridConfig, cell: Cell, steps: int) -> Recipe:
    """Return the recipe of one run."""
    changes = {
        **config.changes,
        **config.sizes[cell.size],
        "name": config.name,
        "seed": cell.seed,
        "data.node_share": cell.nodes,
        "data.graph_share": cell.graphs,
        "train.schedule": "wsd",
        "train.steps": steps,
        "train.max_time": None,
        "train.eval_every": steps,
        "train.save_every": config.steps[-1],
    }
    return load_recipe(config.recipe, [f"{k}={json.dumps(v)}" for k, v in changes.items()])


def run_grid(config: GridConfig, out: Path, *, jobs: int = 1, device: str = "auto") -> list[Path]:
    """Make the missing runs of a grid, several cells at once.

    Args:
        config: The grid.
        out: Folder of the grid. It has a folder for each cell, and that one for each run.
        jobs: Number of processes.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        Receipts of all finished runs.

    Raises:
        DataError: GFM147 if an unseen graph, or one of its group, is in the corpus.
        GraphFMError: The first error of a failed cell, after all other cells are done.
    """
    check_unseen(
        config.unseen, recipe_of(config, cells(config)[0], config.steps[-1]), where=config.name
    )
    failed: list[tuple[Cell, GraphFMError]] = []
    todo = [cell for cell in cells(config) if not _done(config, out, cell)]
    count = len(cells(config))
    bar = tqdm(total=count, initial=count - len(todo), unit="cell", desc=config.name, disable=None)
    # Spawned: torch does not survive a fork. A cell is done in one process from end to end.
    context = multiprocessing.get_context("spawn")
    with bar, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        coming = {pool.submit(run_cell, config, cell, out, device): cell for cell in todo}
        for done in as_completed(coming):
            try:
                done.result()
            except GraphFMError as error:
                failed.append((coming[done], error))
                log.warning("%s failed: %s", coming[done].name, error.what)
            bar.update()
    if failed:
        raise failed[0][1]
    return receipts(config, out)


def run_cell(config: GridConfig, cell: Cell, out: Path, device: str = "auto") -> None:
    """Make all runs of a cell, the shortest first; then measure the unseen graphs."""
    import torch

    from graphfm.storage import write_json
    from graphfm.training.optim import decay_start
    from graphfm.training.pretrain import pretrain
    from graphfm.training.run_folder import checkpoint_path

    torch.set_num_threads(1)  # jobs share the machine, and results do not depend on its cores
    before: Path | None = None
    for steps in config.steps:
        folder = out / cell.name / f"steps{steps}"
        recipe = recipe_of(config, cell, steps)
        if not _finished(folder):
            resume = "auto" if before is None else str(before)
            pretrain(recipe, out=folder, resume=resume, device=device)
        before = checkpoint_path(folder, decay_start(recipe.train))
    last = out / cell.name / f"steps{config.steps[-1]}"
    if config.unseen and not (last / "unseen.json").exists():
        judged = judge_unseen(
            last, config.unseen, steps=config.unseen_steps, seed=cell.seed, device=device
        )
        write_json(last / "unseen.json", list(judged))
    for steps in config.steps:  # receipts stay, weights do not
        shutil.rmtree(out / cell.name / f"steps{steps}" / "checkpoints", ignore_errors=True)


def receipts(config: GridConfig, out: Path) -> list[Path]:
    """Return ``run.json`` of every finished run of a grid."""
    return [
        out / cell.name / f"steps{steps}" / "run.json"
        for cell in cells(config)
        for steps in config.steps
        if _finished(out / cell.name / f"steps{steps}")
    ]


def rows(config: GridConfig, out: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for every finished run: its settings and its results.

    ``loss`` and ``accuracy`` are of validation nodes of all graphs of its corpus. ``loss_common``
    is of the graphs that every run of a seed has, so that runs on fewer graphs are comparable; it
    is left out until the run on the fewest graphs has finished. ``loss_unseen`` and
    ``accuracy_unseen`` are of the test nodes of unseen graphs after the short fit, ``loss_states``
    and ``accuracy_states`` of a closed form on the states alone.
    """
    fewest = min((*config.graphs, 1.0))
    for cell in cells(config):
        for steps in config.steps:
            folder = out / cell.name / f"steps{steps}"
            if not _finished(folder):
                continue
            receipt = _read(folder / "run.json")
            common = out / Cell(size=cell.size, nodes=1.0, graphs=fewest, seed=cell.seed).name
            names = _corpus(common / f"steps{config.steps[0]}" / "run.json")
            last = _last_losses(folder / "metrics.jsonl")
            row: dict[str, Any] = {
                "run": cell.name,
                "size": cell.size,
                "seed": cell.seed,
                "steps": steps,
                "node_share": cell.nodes,
                "graph_share": cell.graphs,
                "params": receipt["params"]["trunk"],
                "targets": receipt["targets_seen"],
                "unique": receipt["unique_targets"],
                "datasets": receipt["datasets"],
                "flops": receipt["flops"],
                "seconds": receipt["seconds"],
                "loss": receipt["loss_end"],
                "accuracy": receipt["accuracy_end"],
                "commit": receipt["environment"]["commit"],
            }
            if names:
                row["loss_common"] = sum(last[name] for name in names) / len(names)
            unseen = folder / "unseen.json"
            if unseen.exists():
                found = _read(unseen)
                for key in ("loss", "accuracy"):
                    row[f"{key}_unseen"] = sum(graph[key] for graph in found) / len(found)
                    of_states = sum(graph[f"states_{key}"] for graph in found)
                    row[f"{key}_states"] = of_states / len(found)
            yield row


def losses(config: GridConfig, out: Path) -> Iterator[tuple[str, int, dict[str, float]]]:
    """Yield cell, steps and the losses of every finished run on each graph.

    Loss / log C, on validation nodes and on test nodes as in :func:`rows`. The names of unseen
    graphs begin with ``unseen:`` after the short fit, with ``states:`` for the states alone.
    """
    for cell in cells(config):
        for steps in config.steps:
            folder = out / cell.name / f"steps{steps}"
            if not _finished(folder):
                continue
            found = _last_losses(folder / "metrics.jsonl")
            unseen = folder / "unseen.json"
            judged = _read(unseen) if unseen.exists() else []
            found |= {f"unseen:{graph['graph']}": graph["loss"] for graph in judged}
            found |= {f"states:{graph['graph']}": graph["states_loss"] for graph in judged}
            yield cell.name, steps, found


def _done(config: GridConfig, out: Path, cell: Cell) -> bool:
    folders = [out / cell.name / f"steps{steps}" for steps in config.steps]
    judged = not config.unseen or (folders[-1] / "unseen.json").exists()
    return judged and all(_finished(folder) for folder in folders)


def _finished(folder: Path) -> bool:
    path = folder / "run.json"
    return path.exists() and bool(_read(path).get("finished"))


def _corpus(path: Path) -> Sequence[str]:
    return list(_read(path)["targets_seen_by_dataset"]) if path.exists() else []


def _last_losses(path: Path) -> dict[str, float]:
    """Return the validation loss of each graph at the end of a run."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    last: Mapping[str, Any] = [line for line in lines if line["kind"] == "eval"][-1]["graphs"]
    return {name: graph["loss"] for name, graph in last.items()}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
