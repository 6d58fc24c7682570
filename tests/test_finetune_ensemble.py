"""Several fits that answer as one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from graphfm.checkpoint.folder import Checkpoint
from graphfm.config.parts import config_class
from graphfm.errors import CheckpointError
from graphfm.estimator import GraphFMClassifier
from graphfm.fitting.ensemble import Ensemble, members_of
from graphfm.fitting.finetune import finetune
from graphfm.fitting.fitted import Fitted
from graphfm.fitting.inference import node_logits, node_states
from graphfm.fitting.probe import SAMPLING, TARGET, bank_of
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
    """Labels are the product of two features: states tell what no linear map of features does."""
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, generator=rng)
    plain = synthetic("product", num_nodes=300, num_features=4, mean_degree=0.5)
    y = (x[:, 0] * x[:, 1] > 0).long()
    names = ("0", "1")
    return with_split(plain.replace(x=x, y=y, class_names=names), (0.4, 0.4, 0.2), seed=0)


def fitted(model: GraphFM, graph: Graph, **options: object) -> Fitted:
    given = {"train_mask": graph.train_mask, "val_mask": graph.val_mask, "max_steps": 3, **options}
    return finetune(prepare(graph), model, **given)


@pytest.mark.parametrize("kind", ["classify", "multilabel"])
def test_pooled_logits_are_those_of_the_mean_probability(kind: str) -> None:
    """In float64, and finite where float32 probabilities round to 0 and 1.

    Seen to fail with the mean of the logits.
    """
    head = config_class("model.heads", kind)().build(dim=4, num_classes=3)
    logits = 4 * torch.randn(5, 20, 3, dtype=torch.float64)
    wanted = head.probabilities(logits.reshape(-1, 3)).reshape(5, 20, 3).mean(dim=0)
    torch.testing.assert_close(head.probabilities(head.ensemble_logits(logits)), wanted)
    extreme = head.ensemble_logits(torch.tensor([[[200.0, -200.0, 0.0]]] * 2))
    assert extreme.isfinite().all()
    wanted = head.probabilities(torch.tensor([[200.0, -200.0, 0.0]]))
    torch.testing.assert_close(head.probabilities(extreme), wanted)


@pytest.mark.parametrize("tune", ["probe", "decoder"])
def test_the_answer_is_the_mean_of_the_members(model: GraphFM, graph: Graph, tune: str) -> None:
    """Before calibration, and each member with the seed it was fitted with.

    Seen to fail when all members read the neighbors of the first.
    """
    own = fitted(model, graph, tune=tune, ensemble=3)
    bank = bank_of(prepare(graph), torch.device("cpu"))
    nodes = torch.arange(300)
    head = own.model.head(TARGET)
    each, states = [], []
    for place, member in enumerate(members_of(own.model)):
        seed = 1_000_003 * place
        each.append(head.probabilities(node_logits(member, bank, 0, nodes, seed=seed, **SAMPLING)))
        states.append(node_states(member, bank, 0, nodes, seed=seed, **SAMPLING))
    assert len(each) == own.members == 3
    for one, other in ((0, 1), (1, 2)):
        assert (each[one] - each[other]).abs().max() > 1e-3, "members must differ"
    whole = head.probabilities(node_logits(own.model, bank, 0, nodes, seed=0, **SAMPLING))
    torch.testing.assert_close(whole, torch.stack(each).mean(dim=0))
    together = node_states(own.model, bank, 0, nodes, seed=0, **SAMPLING)
    torch.testing.assert_close(together, torch.stack(states).mean(dim=0))


def test_the_first_member_is_the_fit_without_an_ensemble(model: GraphFM, graph: Graph) -> None:
    """Bit for bit, and members do not depend on how many there are."""
    alone, two, three = (
        members_of(fitted(model, graph, tune="adapter", ensemble=n).model) for n in (1, 2, 3)
    )
    for one, other in ((alone[0], three[0]), (two[1], three[1])):
        weights = other.state_dict()
        assert all(torch.equal(v, weights[k]) for k, v in one.state_dict().items())


def test_calibration_is_of_the_mean(model: GraphFM, graph: Graph) -> None:
    """Seen to fail when the first member was calibrated: its temperature."""
    alone, five = (GraphFMClassifier(model, tune="probe", ensemble=n).fit(graph) for n in (1, 5))
    assert alone.temperature_ != five.temperature_
    answers = five.answer()
    head = five.model_.head(TARGET)
    again = head.probabilities(torch.from_numpy(answers.uncalibrated).log() / five.temperature_)
    np.testing.assert_allclose(again.numpy(), answers.proba, atol=1e-5)


@pytest.mark.parametrize("tune", ["probe", "decoder"])
def test_one_folder_holds_all_members(
    model: GraphFM, graph: Graph, tmp_path: Path, tune: str
) -> None:
    """Saved and loaded, it predicts the same; the folder counts members, and a probe's are small.

    Seen to fail when only the first member was loaded.
    """
    own = GraphFMClassifier(model, tune=tune, max_steps=3, ensemble=3).fit(graph)
    own.save(tmp_path / "fit")
    again = GraphFMClassifier.load(tmp_path / "fit")
    assert again.members_ == len(members_of(again.model_)) == 3
    assert isinstance(again.model_, Ensemble) and again.ensemble == 3
    np.testing.assert_allclose(again.predict_proba(graph), own.predict_proba(), atol=1e-6)
    np.testing.assert_allclose(again.embed(graph), own.embed(), atol=1e-6)
    assert np.array_equal(again.predict_set(graph), own.predict_set())
    folder = tmp_path / "fit"
    Checkpoint.open(folder)
    whole, more = (
        (folder / f"{name}.safetensors").stat().st_size for name in ("model", "member_1")
    )
    if tune == "probe":
        assert more < whole / 5, "a trunk that is frozen is kept once"


def test_a_damaged_member_is_named(model: GraphFM, graph: Graph, tmp_path: Path) -> None:
    GraphFMClassifier(model, tune="probe", ensemble=2).fit(graph).save(tmp_path / "fit")
    path = tmp_path / "fit" / "member_1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"GFM302.*member_1"):
        GraphFMClassifier.load(tmp_path / "fit")


def test_members_that_would_say_the_same_are_one(
    graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    """A probe without weight on states reads nothing random: one member, and a warning.

    With several labels per node: a fit of classes always gives its states a weight of 1.
    """
    y = torch.stack([graph.y == 0, graph.y == 1], dim=1).to(torch.int8)
    equal_states = small_model([])
    with torch.no_grad():
        equal_states.decoder.norm.weight.zero_()  # every node has the same state
    own = fitted(equal_states, graph.replace(y=y), tune="probe", ensemble=3)
    assert own.state_weight == 0 and own.members == 1
    assert "1 ensemble member instead of 3" in caplog.text


def test_several_labels_a_node(model: GraphFM, graph: Graph) -> None:
    y = torch.stack([graph.y == 0, graph.y != 1], dim=1).to(torch.int8)
    many = graph.replace(y=y, class_names=("first", "not-second"))
    own = GraphFMClassifier(model, tune="probe", ensemble=2).fit(many)
    assert own.predict().shape == (300, 2) and own.members_ == 2
