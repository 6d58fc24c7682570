"""The head that pools experts, and the correction of its weights on validation nodes."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from graphfm.fitting.inference import node_logits
from graphfm.fitting.probe import (
    SAMPLING,
    TARGET,
    add_experts,
    adopt,
    bank_of,
    fit_pool_weights,
    solve_head,
)
from graphfm.graphs.features.prepare import prepare
from graphfm.graphs.splits import with_split
from graphfm.model.graphfm import GraphFM
from graphfm.model.heads.classify import (
    LEAST_TRUST,
    TRUST,
    Config,
    ExpertHead,
    Head,
    trust_in_held_out,
)
from graphfm.sampling.bank import GraphBank
from tests.graphs import small_model, stir, synthetic, three_graphs

DIM, C, Q, E = 5, 3, 40, 4


@pytest.fixture
def head() -> ExpertHead:
    """Its own map and three more experts, whose losses differ."""
    own = Config().build(dim=DIM, num_classes=C, num_experts=E)
    assert isinstance(own, ExpertHead)
    stir(own)
    own.held_out.copy_(torch.tensor([0.5, 0.3, 0.9, 0.35]))
    return own


def columns(seed: int = 0) -> Tensor:
    """States, then log-probabilities of three experts: (Q, DIM + 3 C)."""
    rng = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(Q, E - 1, C, generator=rng).mul(2).log_softmax(dim=2)
    states = torch.randn(Q, DIM, generator=rng)
    return torch.cat([states, log_probs.flatten(1)], dim=1)


def without_answer(given: Tensor, expert: int, rows: Tensor) -> Tensor:
    """The same columns, but one of the three experts (from 1) does not answer for some rows."""
    turned = given.clone()
    turned[rows, DIM + C * (expert - 1) : DIM + C * expert] = torch.nan
    return turned


@torch.no_grad()
def test_it_is_the_weighted_mean_of_the_experts(head: ExpertHead) -> None:
    """Probabilities, not logarithms; their weights fall with the held-out loss.

    Seen to fail with the mean of logarithms, and with weights of the loss without TRUST.
    """
    given = columns()
    own = head.score(given[:, :DIM]).softmax(dim=1)
    proba = torch.cat([own[:, None], given[:, DIM:].unflatten(1, (E - 1, C)).exp()], dim=1)
    weight = (-TRUST * head.held_out).exp()
    expected = (weight[:, None] / weight.sum() * proba).sum(dim=1)
    torch.testing.assert_close(Head.probabilities(head(given)), expected)
    assert weight.argmax() == head.held_out.argmin()


@torch.no_grad()
def test_a_head_of_an_earlier_version_keeps_its_answers(head: ExpertHead) -> None:
    """It has no trust of its own: 5, whatever its labels. Seen to fail with a missing key."""
    saved = {k: v for k, v in head.state_dict().items() if k != "trust"}
    loaded = ExpertHead(DIM, C, E)
    loaded.trust.fill_(1.0)
    loaded.load_state_dict(saved)
    assert torch.equal(loaded(columns()), head(columns())) and float(loaded.trust) == TRUST


@torch.no_grad()
def test_offsets_move_weights_and_sharpness_the_whole(head: ExpertHead) -> None:
    given = columns()
    before = head(given)
    head.sharpness.fill_(math.log(2.0))
    torch.testing.assert_close(head(given), 2 * before)
    head.sharpness.fill_(0.0)
    head.offset[2] = 50.0
    torch.testing.assert_close(head(given), given[:, DIM + C : DIM + 2 * C])


@torch.no_grad()
def test_an_expert_that_does_not_answer_has_no_weight(head: ExpertHead) -> None:
    """The others are pooled, row by row, as if an expert without a prediction did not exist.

    Seen to fail without the mask: all logits are then NaN.
    """
    given = columns()
    rows = torch.arange(0, Q, 3)
    found = head(without_answer(given, 2, rows))
    rest = [0, 1, 3]
    smaller = ExpertHead(DIM, C, 3)
    smaller.score.load_state_dict(head.score.state_dict())
    smaller.held_out.copy_(head.held_out[rest])
    keep = torch.cat([given[:, : DIM + C], given[:, DIM + 2 * C :]], dim=1)
    torch.testing.assert_close(found[rows], smaller(keep)[rows])
    others = torch.ones(Q, dtype=torch.bool)
    others[rows] = False
    assert torch.equal(found[others], head(given)[others])
    assert not torch.allclose(found[rows], head(given)[rows])


@torch.no_grad()
def test_without_other_answers_it_is_its_own_linear_map(head: ExpertHead) -> None:
    """No other expert answers; and a head without experts is a linear one."""
    given = columns()
    for expert in (1, 2, 3):
        given = without_answer(given, expert, torch.arange(Q))
    torch.testing.assert_close(head(given), head.score(given[:, :DIM]).log_softmax(dim=1))
    plain = Config().build(dim=DIM, num_classes=C)
    assert type(plain) is Head and not list(plain.buffers())


@torch.no_grad()
def test_a_confident_and_wrong_expert_cannot_exclude_a_class(head: ExpertHead) -> None:
    """What is left of a class is at least the weight of the others times what they give it."""
    given = columns()
    given[:, DIM + C : DIM + 2 * C] = torch.tensor([0.0, -90.0, -90.0])
    head.held_out[2] = 0.3  # trusted as the best one
    weight = (-TRUST * head.held_out).softmax(dim=0)
    least = weight[1] * given[:, DIM : DIM + C].exp()
    assert bool((Head.probabilities(head(given)) >= least - 1e-6).all())


@torch.no_grad()
def test_classes_may_be_renumbered(head: ExpertHead) -> None:
    given, order = columns(), torch.tensor([2, 0, 1])
    turned = ExpertHead(DIM, C, E)
    turned.held_out.copy_(head.held_out)
    turned.score.weight.copy_(head.score.weight[order])
    turned.score.bias.copy_(head.score.bias[order])
    log_probs = given[:, DIM:].unflatten(1, (E - 1, C))[..., order].flatten(1)
    both = torch.cat([given[:, :DIM], log_probs], dim=1)
    torch.testing.assert_close(turned(both), head(given)[:, order])


def test_only_its_own_map_learns(head: ExpertHead) -> None:
    """Gradient steps move no weight of the pool: it would follow labels that experts have read."""
    loss = head.loss(head(columns()), torch.zeros(Q, dtype=torch.int64)).mean()
    loss.backward()
    assert {name for name, _ in head.named_parameters()} == {"score.weight", "score.bias"}
    assert all(float(param.grad.abs().max()) > 0 for param in head.parameters())


class Pool:
    """A graph, experts that were solved on some of its nodes, and the head that pools them."""

    def __init__(self, model: GraphFM):
        whole = synthetic("pool", num_nodes=400, num_features=8, feature_signal=0.8, seed=4)
        graph = with_split(whole, (0.3, 0.3, 0.4), seed=0)
        prepared = prepare(graph)
        assert graph.train_mask is not None and graph.val_mask is not None
        self.train, self.val = (m.nonzero().flatten() for m in (graph.train_mask, graph.val_mask))
        self.bank: GraphBank = bank_of(prepared, torch.device("cpu"))
        experts = add_experts(self.bank, prepared, self.train, seed=0)
        assert experts is not None
        self.model = adopt(model, prepared, self.bank, experts)
        solve_head(self.model, self.bank, self.train, seed=0)

    def weighed(self, nodes: Tensor, **buffers: Tensor) -> GraphFM:
        """A copy whose weights were corrected on some nodes."""
        model = copy.deepcopy(self.model)
        for name, values in buffers.items():
            getattr(model.head(TARGET), name).copy_(values)
        fit_pool_weights(model, self.bank, nodes, seed=0)
        return model

    def loss(self, model: GraphFM, nodes: Tensor) -> float:
        """Mean negative log likelihood in nats."""
        logits = node_logits(model, self.bank, 0, nodes, seed=0, **SAMPLING)
        return float(F.cross_entropy(logits, self.bank.y[TARGET][nodes]))


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(small_model(three_graphs()))


def test_trust_grows_with_the_labels(pool: Pool) -> None:
    """From 1 to 5, as far as the labels a class go; a fit sets it in its head.

    Seen to fail with the number of labels in place of labels a class.
    """
    trust = [trust_in_held_out(k) for k in (0.1, 1, 2, 5, 10, 20, 50, 1000)]
    assert trust == sorted(trust) and trust[0] >= LEAST_TRUST
    assert trust[1] < 1.1 and 4.4 < trust[5] < trust[6] < TRUST
    assert trust[-1] == pytest.approx(TRUST, abs=1e-3)
    per_class = len(pool.train) / pool.model.specs[TARGET].task.num_classes
    found = float(pool.model.head(TARGET).trust)
    assert found == pytest.approx(trust_in_held_out(per_class)) and found < TRUST


@pytest.mark.parametrize("num", [1, 3, 20, 120])
def test_the_correction_never_loses_on_the_nodes_that_it_reads(pool: Pool, num: int) -> None:
    """Nor does it go far for few: a node moves no weight by more than a nat or so.

    Seen to fail with the sign of the penalty turned, and with that of the loss.
    """
    nodes = pool.val[:num]
    own = pool.weighed(nodes)
    offset = own.head(TARGET).offset
    assert pool.loss(own, nodes) <= pool.loss(pool.model, nodes) + 1e-6
    # At the best point the penalty is no more than what the nodes can gain in all.
    gained = num * (pool.loss(pool.model, nodes) - pool.loss(own, nodes))
    assert float(offset.square().sum()) / (2 * 0.7**2) <= gained + 1e-5
    assert all(torch.equal(v, own.state_dict()[k]) for k, v in pool.model.state_dict().items()
               if "offset" not in k and "sharpness" not in k)  # fmt: skip


def test_the_correction_is_at_its_best_point(pool: Pool) -> None:
    """Slopes of penalty and loss, from the model's own answers, vanish in every direction.

    Seen to fail after one step, with the loss over log C in place of nats, and
    without the sharpness.
    """
    own = pool.weighed(pool.val)
    head = own.head(TARGET)

    def objective() -> float:
        penalty = head.offset.square().sum() / 0.49 + head.sharpness.square() / 0.1225
        return len(pool.val) * pool.loss(own, pool.val) + float(penalty) / 2

    for place in [*head.offset.unbind(), head.sharpness]:
        sides = []
        for step in (0.05, -0.05):
            place += step
            sides.append(objective())
            place -= step
        assert abs(sides[0] - sides[1]) / 0.1 < 0.02


def test_an_expert_with_a_wrong_held_out_loss_loses_weight(pool: Pool) -> None:
    """The worst one gets by far the least loss: validation nodes lower its weight.

    Measured on nodes that nothing has read. Seen to fail with a search that turns uphill.
    """
    head = pool.model.head(TARGET)
    worst = int(head.held_out.argmax())
    wrong = torch.ones_like(head.held_out)
    wrong[worst] = 0.3
    corrected, uncorrected = (
        pool.weighed(nodes, held_out=wrong) for nodes in (pool.val, pool.val[:0])
    )
    offset = corrected.head(TARGET).offset
    assert offset.argmin() == worst and offset[worst] < -0.5
    test = torch.arange(400)
    test = test[~torch.isin(test, torch.cat([pool.train, pool.val]))]
    assert pool.loss(corrected, test) < 0.95 * pool.loss(uncorrected, test)


def test_without_validation_nodes_nothing_changes(pool: Pool) -> None:
    own = pool.weighed(pool.val[:0])
    assert all(torch.equal(v, own.state_dict()[k]) for k, v in pool.model.state_dict().items())


def test_a_linear_head_is_left_as_it_is() -> None:
    model = small_model(three_graphs())
    graph = with_split(synthetic("plain"), (0.5, 0.3, 0.2), seed=0)
    prepared = prepare(graph)
    bank = bank_of(prepared, torch.device("cpu"))
    own = adopt(model, prepared, bank)
    before = {k: v.clone() for k, v in own.state_dict().items()}
    fit_pool_weights(own, bank, torch.arange(30), seed=0)
    assert type(own.head(TARGET)) is Head
    assert all(torch.equal(v, before[k]) for k, v in own.state_dict().items())
