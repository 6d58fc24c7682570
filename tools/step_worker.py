"""Takes training steps when told to; run in a process with this or the first version's package.

It uses only what both versions have.

    {"recipe": name, "overrides": [...]} -> {"datasets": ...}     {"steps": n} -> {"seconds": ...}
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch


class Steps:
    """A recipe in training, on a CPU or CUDA.

    Args:
        recipe: Name.
        overrides: ``key=value``.
        num_steps: The steps that are taken, again and again.
        device: Where.
    """

    def __init__(self, recipe: str, overrides: list[str], num_steps: int, device: str):
        from graphfm.config import load_recipe
        from graphfm.graphs.catalog import Catalog
        from graphfm.graphs.prepare import prepare_many
        from graphfm.model import GraphFM
        from graphfm.training.corpus import Corpus
        from graphfm.training.loop import train
        from graphfm.training.optim import make_optimizer

        self.recipe = load_recipe(recipe, overrides)
        self.device = torch.device(device)
        catalog = Catalog.read()
        weights = catalog.mixture(self.recipe.data.mixture)
        graphs = prepare_many(list(weights), catalog)
        self.corpus = Corpus(graphs, list(weights.values()), self.recipe, device=self.device)
        self.model = GraphFM(self.recipe.model, seed=0)
        for spec in self.corpus.specs:
            self.model.add_graph(spec)
        self.model.to(self.device)
        self.corpus.make_plan(self.model)
        self.optimizer = make_optimizer([self.model], self.recipe.train)
        self.num_steps = num_steps
        self.run: Iterator[Any] = train(
            self.model,
            self.recipe.objective.build(),
            self.optimizer,
            lambda step: self.corpus.batch_at(step % num_steps),
            self.recipe.train,
            seed=0,
        )

    def take(self) -> dict[str, float]:
        """All of the steps once: processor seconds on a CPU, seconds on CUDA, and targets."""
        clock = time.perf_counter if self.device.type == "cuda" else time.process_time
        gc.collect()
        gc.disable()
        begin = clock()
        targets = sum(next(self.run).batch.num_targets for _ in range(self.num_steps))
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = clock() - begin
        gc.enable()
        return {"seconds": seconds, "targets": targets}


def main() -> None:
    """Answer until the input ends."""
    steps: Steps | None = None
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        question = json.loads(line)
        if "recipe" in question:
            torch.set_num_threads(question.pop("threads"))
            steps = Steps(**question)
            answer: dict[str, float] = {"datasets": len(steps.corpus.bank)}
        else:
            assert steps is not None
            answer = steps.take()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
