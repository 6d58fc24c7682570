"""One rank of the tests of many processes: ``torchrun -m tests.ranks OUT CASES``."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import torch

from graphfm.config.load import load_recipe
from graphfm.model.graphfm import GraphFM
from graphfm.training.corpus import Corpus
from graphfm.training.distributed import SHARD_ABOVE, DistributedModel
from graphfm.training.loop import train
from graphfm.training.optim import make_optimizer
from graphfm.training.sharded import gather_weights, load_sharded, save_sharded
from graphfm.training.world import World, join_world
from tests.graphs import three_graphs

SMALL = [
    "train.steps=12",
    "train.warmup_steps=2",
    "train.lr=3e-3",
    "sampling.max_targets=16",
    "sampling.max_context=32",
    "sampling.targets_per_step=60",
    "sampling.num_neighbors=4",
    "sampling.bins_per_step=4",
    "model.dim=32",
    "model.encoder.num_latents=8",
]


def learn(
    world: World,
    *changes: str,
    shard_above: int = SHARD_ABOVE,
    start: int = 0,
    stop: int | None = None,
    folder: str | None = None,
) -> dict[str, object]:
    """Train on three small graphs; return what all ranks share and what each rank did.

    Training starts at ``start``, with the sharded state in ``folder``. At ``stop`` the state is
    written there.
    """
    recipe = load_recipe("demo", [*SMALL, *changes])
    corpus = Corpus(three_graphs(), [1.0, 2.0, 1.5], recipe, device=world.device)
    model = GraphFM(recipe.model, seed=recipe.seed)
    for spec in corpus.specs:
        model.add_graph(spec)
    distributed = DistributedModel(model, world, shard_above=shard_above)
    optimizer = make_optimizer([model], recipe.train)
    if start:
        load_sharded(Path(str(folder)), model, optimizer)
    steps = train(
        model,
        recipe.objective.build(),
        optimizer,
        lambda step: corpus.rank_batches(step, rank=world.rank, size=world.size),
        recipe.train,
        seed=recipe.seed,
        start=start,
        distributed=distributed,
    )
    result: dict[str, list[object]] = {"loss": [], "graphs": [], "norm": [], "flops": []}
    result |= {"targets": [], "balance": [], "batches": []}
    for step in steps:
        result["loss"].append(float(step.loss))
        result["graphs"].append(dict(zip(step.names, step.per_graph.tolist(), strict=True)))
        result["norm"].append(float(step.grad_norm))
        result["flops"].append(step.flops)
        result["balance"].append(step.balance)
        seen = [
            [name, int(node), int(label)]
            for batch in step.batches
            for name, nodes, labels in zip(
                batch.names, batch.n_id.split(batch.sizes), batch.y, strict=True
            )
            for node, label in zip(nodes, labels, strict=True)
        ]
        parts = world.gather([seen, len(step.batches)])
        together = sorted(row for rows, _ in parts for row in rows)
        result["targets"].append(hashlib.sha256(json.dumps(together).encode()).hexdigest())
        result["batches"].append([n for _, n in parts])
        if step.number == stop:
            save_sharded(Path(str(folder)), model, optimizer)
            break
    weights = hashlib.sha256()
    for value in gather_weights(model).values():
        weights.update(value.numpy().tobytes())
    result["weights"] = world.gather(weights.hexdigest())
    names = {id(p): name for name, p in model.named_parameters()}
    taken = {names[id(p)]: float(own["step"]) for p, own in optimizer.state.items()}
    return {**result, "taken": taken, "bytes": distributed.bytes_sent, "all": model.num_params()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = join_world()
    found = {}
    for name, (changes, more) in json.loads(sys.argv[2]).items():
        found[name] = learn(here, *changes, **more)
    if here.is_main:
        Path(sys.argv[1]).write_text(json.dumps(found), encoding="utf-8")
    here.close()
