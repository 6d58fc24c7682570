"""``tune="auto"``: the chosen depth, the choice, and its reason."""

import re

import numpy as np
import pytest
import torch

from graphfm.fitting import members
from graphfm.fitting.depth import MIN_TRAIN, MIN_VAL, Trial, choose_depth, depths_to_try
from graphfm.fitting.descent import ValidationScore
from graphfm.fitting.finetune import finetune
from graphfm.fitting.fitted import Fitted
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.graph import Graph
from graphfm.graphs.splits import with_split
from graphfm.model.graphfm import GraphFM
from tests.graphs import small_model, synthetic, three_graphs


@pytest.fixture(scope="module")
def model() -> GraphFM:
    return small_model(three_graphs())


@pytest.fixture(scope="module")
def graph() -> Graph:
    hard = synthetic("hard", num_nodes=300, num_features=7, homophily=0.6, feature_signal=0.7)
    return with_split(hard, (0.5, 0.3, 0.2), seed=0)


def auto(model: GraphFM, graph: Graph, **options: object) -> Fitted:
    given = {"train_mask": graph.train_mask, "val_mask": graph.val_mask, "max_steps": 5, **options}
    return finetune(prepare(graph), model, **given)


def scored(right: list[float]) -> ValidationScore:
    return ValidationScore(score=float(np.mean(right)), loss=1.0, right=np.array(right))


def test_auto_is_the_default_and_gives_what_that_depth_would_have_given(
    model: GraphFM, graph: Graph
) -> None:
    """The chosen depth, asked for by name, has the same weights bit for bit."""
    own = auto(model, graph, pool=False)
    assert [t.depth for t in own.tried] == ["probe", "adapter", "decoder"]
    named = "decoder" if own.tune == "probe" else own.tune
    again = auto(model, graph, tune=named, pool=False)
    if own.tune != "probe":
        weights = again.model.state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in own.model.state_dict().items())
        assert own.val_score == again.val_score and own.history == again.history
    for other in own.tried[1:]:
        asked = auto(model, graph, tune=other.depth, pool=False)
        assert asked.val_score == other.score and asked.best_step == other.best_step


def test_beside_experts_the_next_depth_is_tried_where_the_one_before_was_better(
    model: GraphFM, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen to fail with all depths tried whatever came of the first."""
    own = auto(model, graph)
    assert [t.depth for t in own.tried] == ["probe", "adapter"] and own.tune == "probe"
    assert own.tune_reason.endswith("so decoder was not tried")
    monkeypatch.setattr(members, "choose_depth", lambda tries: (tries[-1], "better"))
    deeper = auto(model, graph)
    assert [t.depth for t in deeper.tried] == ["probe", "adapter", "decoder"]


def test_the_choice_and_its_reason_name_every_depth_with_its_score(
    model: GraphFM, graph: Graph
) -> None:
    """Seen to fail with a reason that named the winner only."""
    own = auto(model, graph)
    for each in own.tried:
        assert re.search(rf"{each.depth} {each.score:.3f}", own.tune_reason), own.tune_reason


def test_no_test_label_is_read_by_the_choice(model: GraphFM, graph: Graph) -> None:
    y = graph.y.clone()
    y[graph.test_mask] = (y[graph.test_mask] + 1) % 3
    first, second = (auto(model, g) for g in (graph, graph.replace(y=y)))
    assert (first.tune, first.tune_reason) == (second.tune, second.tune_reason)
    weights = second.model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in first.model.state_dict().items())


def test_a_deeper_fit_has_to_be_better_by_more_than_chance() -> None:
    """One node of 100 more is chance, ten are not. Seen to fail with `gain > 0`."""
    probe = Trial(depth="probe", validation=scored([1.0] * 60 + [0.0] * 40))
    lucky = Trial(depth="adapter", validation=scored([1.0] * 61 + [0.0] * 39))
    better = Trial(depth="decoder", validation=scored([1.0] * 70 + [0.0] * 30))
    assert choose_depth([probe, lucky])[0] is probe
    assert choose_depth([probe, lucky, better])[0] is better
    worse = Trial(depth="decoder", validation=scored([1.0] * 50 + [0.0] * 50))
    assert choose_depth([probe, better, worse])[0] is better
    # Ten nodes gained and nine lost is chance too, though ten differ.
    swapped = Trial(depth="adapter", validation=scored([0.0] * 9 + [1.0] * 61 + [0.0] * 30))
    assert choose_depth([probe, swapped])[0] is probe


def test_a_depth_that_helps_is_taken(model: GraphFM) -> None:
    """Labels are the product of two of eight features, which no linear map of them gives.

    As two labels of a node: the experts of a fit of classes learn the product too.
    Seen to fail when the choice always was the probe.
    """
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(900, 8, generator=rng)
    plain = synthetic("product", num_nodes=900, num_features=8, mean_degree=0.2)
    positive = x[:, 0] * x[:, 1] > 0
    y = torch.stack([positive, ~positive], dim=1).to(torch.int8)
    graph = with_split(plain.replace(x=x, y=y, class_names=("0", "1")), (0.6, 0.3, 0.1), seed=0)
    own = auto(model, graph, max_steps=20)
    assert own.tune != "probe" and own.val_score > own.tried[0].score, own.tune_reason


def test_few_labels_stay_with_what_they_can_carry() -> None:
    assert depths_to_try(MIN_TRAIN["decoder"], MIN_VAL) == (("adapter", "decoder"), "")
    assert depths_to_try(MIN_TRAIN["adapter"], MIN_VAL)[0] == ("adapter",)
    assert depths_to_try(15, 500)[0] == ()
    assert depths_to_try(10_000, MIN_VAL - 1)[0] == ()
    for sizes in ((15, 500), (10_000, 3), (10_000, 0)):
        assert depths_to_try(*sizes)[1], "the reason must be given"


def test_five_labels_a_class(model: GraphFM, graph: Graph) -> None:
    """Learns from 15 nodes, better than chance, and gives the reason for going no deeper."""
    few = torch.zeros(300, dtype=torch.bool)
    for label in range(3):
        few[(graph.train_mask & (graph.y == label)).nonzero().flatten()[:5]] = True
    own = auto(model, graph, train_mask=few)
    assert own.tune == "probe" and "15 training nodes" in own.tune_reason
    assert own.val_score > 0.4


def test_no_validation_nodes(model: GraphFM, graph: Graph) -> None:
    """The probe, and why."""
    own = auto(model, graph, val_mask=None)
    assert own.tune == "probe" and own.val_score is None and own.history == []
    assert "no validation node" in own.tune_reason


def test_several_labels_a_node(model: GraphFM, graph: Graph) -> None:
    """Scores of a node count its known labels; their mean is the score that is shown.

    Seen to fail when a node's share was taken over all labels, unknown ones counted wrong.
    """
    y = torch.stack([graph.y == 0, graph.y != 1], dim=1).to(torch.int8)
    y[::7, 0] = -1
    many = graph.replace(y=y, class_names=("first", "not-second"))
    own = auto(model, many)
    assert [t.depth for t in own.tried] == ["probe", "adapter", "decoder"]
    for each in own.tried:
        assert each.validation.right.mean() == pytest.approx(each.score)


def test_an_explicit_depth_is_not_second_guessed(model: GraphFM, graph: Graph) -> None:
    own = auto(model, graph, tune="adapter")
    assert own.tune == "adapter" and [t.depth for t in own.tried] == ["probe", "adapter"]
    assert own.tune_reason == "adapter was asked for"
