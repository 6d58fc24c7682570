"""Fitting a graph, and the estimator around it."""

import networkx as nx
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from graphfm.errors import CheckpointError, DataError
from graphfm.estimator import GraphFMClassifier
from graphfm.fitting.descent import DEPTHS
from graphfm.fitting.finetune import finetune
from graphfm.fitting.inference import node_logits
from graphfm.fitting.probe import SAMPLING, TARGET, bank_of
from graphfm.graphs.convert import to_pyg
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.splits import with_split
from tests.graphs import small_model, synthetic, three_graphs


@pytest.fixture(scope="module")
def model():
    return small_model(three_graphs())


@pytest.fixture(scope="module")
def graph():
    return with_split(synthetic("mine", num_nodes=200, num_features=7, seed=5), seed=0)


def fitted(model, graph, tune="decoder", steps=6, **masks):
    return finetune(
        prepare(graph),
        model,
        train_mask=graph.train_mask,
        tune=tune,
        max_steps=steps,
        **{"val_mask": graph.val_mask, **masks},
    )


def garbled(graph, mask, seed=0):
    """Labels under a mask are drawn anew."""
    rng = torch.Generator().manual_seed(seed)
    y = graph.y.clone()
    y[mask] = torch.randint(0, graph.num_classes, (int(mask.sum()),), generator=rng)
    assert not torch.equal(y, graph.y)
    return graph.replace(y=y)


@pytest.mark.parametrize("tune", DEPTHS)
def test_what_moves_is_what_the_depth_says(model, graph, tune):
    """Trunk parts that are frozen keep every bit; the model that was passed in is never changed."""
    before = {k: v.clone() for k, v in model.state_dict().items()}
    own = fitted(model, graph, tune, val_mask=None).model
    moved = {
        name: any(not torch.equal(v, before[f"{name}.{k}"]) for k, v in module.state_dict().items())
        for name, module in own.trunk.items()
    }
    assert moved == {
        "position": tune == "full",
        "encoder": tune == "full",
        "decoder": tune in ("decoder", "full"),
    }
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_without_the_pool_the_trunk_and_the_raw_features_answer(model, graph):
    """And a fit's own bank gives the other nodes the answers that a new bank gives them.

    Seen to fail with the experts asked all the same.
    """
    alone, pool = (fitted(model, graph, "probe", pool=pool) for pool in (False, True))
    assert alone.experts is None and pool.experts is not None
    assert type(alone.model.head(TARGET)) is not type(pool.model.head(TARGET))
    asked = graph.test_mask.nonzero().flatten()
    for found in (alone, pool):
        again = bank_of(
            prepare(graph), torch.device("cpu"), like=found.scaling, experts=found.experts
        )
        first, second = (
            node_logits(found.model, bank, 0, asked, seed=0, **SAMPLING)
            for bank in (found.bank, again)
        )
        torch.testing.assert_close(first, second)


def test_no_label_of_another_node_is_read(model, graph):
    """Validation and test labels are garbled: curve, weights and predictions stay, bit for bit.

    Without early stopping, for choosing the step is what validation labels are for. Fails when the
    ridge takes its strength from validation nodes, or the head is fitted on all labelled ones.
    """
    other = garbled(graph, ~graph.train_mask)
    first, second = (fitted(model, g, val_mask=None) for g in (graph, other))
    assert first.history == second.history
    weights = second.model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in first.model.state_dict().items())


def test_no_test_label_is_read_with_early_stopping_either(model, graph):
    probabilities = []
    for each in (graph, garbled(graph, graph.test_mask)):
        estimator = GraphFMClassifier(model, max_steps=6).fit(each)
        probabilities.append(estimator.predict_proba())
    assert np.array_equal(*probabilities)


def test_random_labels_are_not_predicted(model):
    """Test accuracy within a 99.9% binomial interval of chance: 120 nodes, 3 classes, seed 3."""
    graph = synthetic("noise", num_nodes=300, num_features=7, feature_signal=0.0, homophily=0.34)
    rng = torch.Generator().manual_seed(3)
    graph = with_split(
        graph.replace(y=torch.randint(0, 3, (300,), generator=rng)), (0.4, 0.2, 0.4), seed=0
    )
    score = GraphFMClassifier(model, max_steps=6).fit(graph).score()
    assert abs(score - 1 / 3) < 3.3 * (2 / 9 / 120) ** 0.5


def test_gradient_steps_never_lose_validation_accuracy_to_the_probe(model, graph):
    """Without a pool: in one, a deeper fit has trees too, from its first step on."""
    probe = fitted(model, graph, "probe", pool=False)
    for tune in ("adapter", "decoder", "full"):
        deeper = fitted(model, graph, tune, steps=10, pool=False)
        assert deeper.val_score >= probe.val_score
        assert deeper.history[0]["accuracy"] == probe.val_score


def test_a_separable_graph_is_learned(model):
    graph = with_split(synthetic("easy", num_nodes=300, feature_signal=4.0, homophily=0.95), seed=0)
    assert GraphFMClassifier(model, tune="probe").fit(graph).score() > 0.95


def test_states_without_information_get_no_weight_in_the_closed_form(model, graph):
    """A trunk that gives every node the same state leaves no weight on it."""
    equal_states = small_model([])
    with torch.no_grad():
        equal_states.decoder.norm.weight.zero_()
    own = fitted(equal_states, graph, "probe")
    assert not own.model.head(TARGET).score.weight[:, :32].any()
    usual = fitted(model, graph, "probe")
    assert bool(usual.model.head(TARGET).score.weight[:, :32].any()) == (usual.state_weight > 0)


def test_class_names_may_be_permuted(model, graph):
    """Probabilities follow their class; nothing depends on the order of classes."""
    order = torch.tensor([2, 0, 1])
    turned = graph.replace(
        y=order[graph.y], class_names=tuple(graph.class_names[i] for i in order.argsort())
    )
    first = GraphFMClassifier(model, tune="probe").fit(graph).predict_proba()
    second = GraphFMClassifier(model, tune="probe").fit(turned).predict_proba()
    np.testing.assert_allclose(second[:, order], first, atol=1e-5)


def test_too_few_labels_are_refused(model, graph):
    one = torch.zeros(200, dtype=torch.bool)
    one[int(graph.train_mask.nonzero()[0])] = True
    with pytest.raises(DataError, match="GFM131"):
        GraphFMClassifier(model).fit(graph, train_mask=one)
    same = graph.train_mask & (graph.y == 0)
    with pytest.raises(DataError, match="GFM132"):
        GraphFMClassifier(model).fit(graph, train_mask=same)
    with pytest.raises(DataError, match="GFM135"):
        GraphFMClassifier(model).fit(graph, train_mask=graph.train_mask, val_mask=graph.train_mask)
    with pytest.raises(DataError, match="GFM116"):
        GraphFMClassifier(model).fit(graph, train_mask=torch.ones(3, dtype=torch.bool))
    with pytest.raises(DataError, match="tune"):
        GraphFMClassifier(model, tune="everything").fit(graph)


def test_scikit_learns_manners(model, graph):
    estimator = GraphFMClassifier(model, tune="probe", random_state=3)
    assert clone(estimator).get_params()["random_state"] == 3
    with pytest.raises(NotFittedError):
        estimator.predict()
    assert estimator.fit(graph) is estimator
    probabilities = estimator.predict_proba()
    assert probabilities.shape == (200, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert set(estimator.predict()) <= set(estimator.classes_)
    assert estimator.embed(mask=graph.test_mask).shape == (int(graph.test_mask.sum()), 32)
    assert 0 <= estimator.score() <= 1


def test_the_inputs_may_be_pyg_or_networkx(model, graph):
    mine = GraphFMClassifier(model, tune="probe").fit(graph).predict_proba()
    from_pyg = GraphFMClassifier(model, tune="probe").fit(to_pyg(graph)).predict_proba()
    np.testing.assert_allclose(from_pyg, mine, atol=1e-5)
    club = nx.karate_club_graph()
    estimator = GraphFMClassifier(model, tune="probe").fit(club, target="club")
    assert set(estimator.predict()) == {"Mr. Hi", "Officer"}
    assert (estimator.predict() == [club.nodes[v]["club"] for v in club]).mean() > 0.8


def test_a_saved_estimator_predicts_the_same(model, graph, tmp_path):
    estimator = GraphFMClassifier(model, max_steps=4).fit(graph)
    estimator.save(tmp_path / "fit")
    loaded = GraphFMClassifier.load(tmp_path / "fit")
    np.testing.assert_allclose(loaded.predict_proba(graph), estimator.predict_proba(), atol=1e-5)
    assert list(loaded.classes_) == list(estimator.classes_)
    with pytest.raises(DataError, match="GFM124"):
        loaded.predict()
    wrong = synthetic("wrong", num_features=3)
    with pytest.raises(DataError, match="GFM144"):
        loaded.predict(wrong)


def test_a_pretrained_model_is_not_a_fitted_one(model, tmp_path):
    from graphfm.checkpoint.folder import save_checkpoint

    save_checkpoint(tmp_path / "trunk", model, meta={"name": "trunk"})
    with pytest.raises(CheckpointError, match="GFM307"):
        GraphFMClassifier.load(tmp_path / "trunk")


def test_unlabelled_nodes_are_predicted_and_never_learned(model, graph):
    hidden = torch.zeros(200, dtype=torch.bool)
    hidden[:50] = True
    y = graph.y.clone()
    y[hidden] = -1
    masks = {"train_mask": None, "val_mask": None, "test_mask": None}
    estimator = GraphFMClassifier(model, tune="probe").fit(graph.replace(y=y, **masks))
    assert estimator.predict_proba(mask=hidden).shape == (50, 3)
    assert estimator.val_score_ is not None  # a fifth was split off


def test_multilabel(model, graph):
    y = torch.stack([graph.y == 0, graph.y != 1], dim=1).to(torch.int8)
    y[5] = -1
    many = graph.replace(y=y, class_names=("first", "not-second"))
    estimator = GraphFMClassifier(model, max_steps=4).fit(many)
    assert estimator.predict().shape == (200, 2)
    assert estimator.score() > 0.6


def test_the_fitted_model_holds_one_graph(model, graph):
    own = fitted(model, graph).model
    assert list(own.specs) == [TARGET]
