"""The corpus: several batches of a step have the targets of one batch of all."""

import pytest
import torch

from graphfm.sampling.batch import GraphBatch
from graphfm.training.corpus import Corpus
from tests.graphs import three_graphs
from tests.test_pretrain import recipe_of


def corpus_of(*more: str) -> Corpus:
    graphs = three_graphs()
    sampling = ["sampling.max_targets=16", "sampling.targets_per_step=400"]
    recipe = recipe_of(*sampling, *more)
    return Corpus(graphs, [1.0, 2.0, 5.0], recipe, device=torch.device("cpu"))


def tokens_of(corpus: Corpus, batch: GraphBatch, tokens: torch.Tensor, b: int) -> torch.Tensor:
    """Return rows of positional encodings: they identify tokens in every batch."""
    assert bool(((tokens >= batch.ptr[b]) & (tokens < batch.ptr[b + 1])).all())
    return batch.pe[tokens]


def learned_from(corpus: Corpus, batches: list[GraphBatch]) -> list[tuple]:
    """Return (graph, target, label, neighbors, context of the graph) of all targets, sorted."""
    rows = []
    for batch in batches:
        for b, name in enumerate(batch.names):
            own = slice(batch.query_ptr[b], batch.query_ptr[b + 1])
            read = batch.context[batch.context_ptr[b] : batch.context_ptr[b + 1]]
            context = tokens_of(corpus, batch, read, b).sum().item()
            for i, label, near, mask in zip(
                batch.n_id[own],
                batch.y[b],
                batch.neighbors[own],
                batch.neighbor_mask[own],
                strict=True,
            ):
                around = tokens_of(corpus, batch, near[mask], b).flatten().tolist()
                rows.append((name, int(i), int(label), around, context))
    return sorted(rows)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_bins_of_a_step_have_the_targets_of_one_batch(world):
    """Targets, labels, neighbors and contexts are the same for every number of ranks.

    Seen to fail with contexts drawn for each bin, and with ranks in place of bins as the stride.
    """
    whole, parted = corpus_of(), corpus_of("sampling.bins_per_step=3")
    cut = False
    for step in range(3):
        parts = [
            batch
            for rank in range(world)
            for batch in parted.rank_batches(step, rank=rank, size=world).batches
        ]
        wanted = learned_from(whole, [whole.batch_at(step)])
        assert learned_from(parted, parts) == wanted
        assert learned_from(parted, [parted.batch_at(step)]) == wanted
        names = [name for batch in parts for name in batch.names]
        cut |= len(names) > len(set(names))
    assert cut


def test_an_empty_bin_makes_no_batch():
    """Ranks may have no batch. Seen to fail without the check of the bin."""
    corpus = corpus_of("sampling.bins_per_step=50")
    batches = corpus.rank_batches(0).batches
    assert 0 < len(batches) < 50
    assert corpus.rank_batches(0, rank=50, size=51).batches == ()


@pytest.mark.parametrize("strategy", ["snake", "uniform"])
def test_the_other_strategies_run(strategy):
    corpus = corpus_of(f"sampling.strategy={strategy}", "sampling.bins_per_step=2")
    seen = set()
    for step in range(corpus.plan.steps_per_epoch):
        for batch in corpus.rank_batches(step).batches:
            seen |= set(batch.names)
    assert seen == {"alpha", "beta", "gamma"}
