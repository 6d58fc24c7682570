"""Distance of the states of a graph from those of the pretraining corpus."""

import pytest
import torch

from graphfm.checkpoint.folder import find_checkpoint, read_tensors
from graphfm.config.load import load_recipe
from graphfm.estimator import GraphFMClassifier
from graphfm.training.corpus import Corpus
from graphfm.training.run import Run
from graphfm.training.state_cloud import StateCloud
from tests.graphs import synthetic, three_graphs


def test_states_are_compared_with_those_of_the_corpus(tmp_path):
    """A checkpoint of pretraining describes the states of its corpus; far states stand out."""
    recipe = load_recipe("demo", ["train.steps=3", "train.warmup_steps=1", "model.dim=32"])
    corpus = Corpus(three_graphs(), [1.0, 1.0, 1.0], recipe, device=torch.device("cpu"))
    Run(recipe, corpus, tmp_path / "run", torch.device("cpu")).train()
    near = GraphFMClassifier(tmp_path / "run", tune="probe").fit(synthetic("new", seed=9))
    assert 0 <= near.far_states_ <= 1
    cloud = StateCloud(**read_tensors(find_checkpoint(tmp_path / "run") / "novelty.safetensors"))
    states = torch.from_numpy(near.embed()).float()
    assert cloud.share_beyond(states) == pytest.approx(near.far_states_, abs=0.02)
    assert cloud.share_beyond(100 * states) == 1.0
    near.save(tmp_path / "fitted")
    assert GraphFMClassifier.load(tmp_path / "fitted").far_states_ == near.far_states_
    assert (
        GraphFMClassifier("random", tune="probe").fit(synthetic("new", seed=9)).far_states_ is None
    )


def test_a_held_out_node_is_as_far_as_itself_however_it_is_rounded():
    """States of a node differ by 1e-6 between batches. Seen to fail without the tolerance."""
    draw = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    cloud = StateCloud.of(draw[:100], draw[100:])
    again = draw[100:] * (
        1 + 1e-6 * torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    )
    assert torch.equal(cloud.novelty(again), cloud.novelty(draw[100:]))
