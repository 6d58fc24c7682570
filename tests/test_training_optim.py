"""Optimizers: LAMB is the paper's, Muon is on the trunk, graphs that are not visited stay."""

import math

import pytest
import torch

from graphfm.config.recipe import TrainConfig
from graphfm.sampling.bank import GraphBank
from graphfm.training.loop import train
from graphfm.training.objectives.supervised import Config as Supervised
from graphfm.training.optim import lr_at, make_optimizer
from tests.graphs import batch_of, small_model, three_graphs

OPTIMIZERS = ["adamw", "muon", "lamb"]


def config(optimizer="lamb", **fields):
    return TrainConfig(**{"steps": 20, "warmup_steps": 0, "optimizer": optimizer, **fields})


class LambOfThePaper:
    """Algorithm 2 of arXiv 1904.00962 with phi = identity, a tensor at a time."""

    def __init__(self, params, decay, lr, betas=(0.9, 0.999), eps=1e-6):
        self.params, self.decay, self.lr, self.betas, self.eps = params, decay, lr, betas, eps
        self.m = [torch.zeros_like(p) for p in params]
        self.v = [torch.zeros_like(p) for p in params]
        self.t = 0

    def step(self, grads):
        self.t += 1
        (b1, b2), t = self.betas, self.t
        for p, g, m, v, decay in zip(self.params, grads, self.m, self.v, self.decay, strict=True):
            m.mul_(b1).add_((1 - b1) * g)
            v.mul_(b2).add_((1 - b2) * g * g)
            r = (m / (1 - b1**t)) / ((v / (1 - b2**t)).sqrt() + self.eps) + decay * p
            size, way = float(p.norm()), float(r.norm())
            p -= self.lr * (size / way if size > 0 and way > 0 else 1.0) * r


class Tensors(torch.nn.Module):
    def __init__(self, values):
        super().__init__()
        for i, value in enumerate(values):
            self.register_parameter(f"p{i}", torch.nn.Parameter(value.clone()))


def test_lamb_equals_the_papers_algorithm_to_1e_12():
    """Ten steps in float64, with a matrix and a vector that begin at zero.

    Seen to fail with eps under the root, and without the correction of the second mean.
    """
    rng = torch.Generator().manual_seed(0)
    shapes = [(7, 5), (5,), (3, 4), (4,)]
    values = [torch.randn(s, generator=rng, dtype=torch.float64) for s in shapes[:2]]
    values += [torch.zeros(s, dtype=torch.float64) for s in shapes[2:]]
    c = config(lr=0.01, weight_decay=0.1)
    module = Tensors(values)
    optimizer = make_optimizer([module], c)
    peer = LambOfThePaper([v.clone() for v in values], [0.1, 0.0, 0.1, 0.0], c.lr)
    for _ in range(10):
        grads = [3 * torch.randn(s, generator=rng, dtype=torch.float64) for s in shapes]
        for param, grad in zip(module.parameters(), grads, strict=True):
            param.grad = grad.clone()
        optimizer.step()
        peer.step(grads)
    for param, wanted in zip(module.parameters(), peer.params, strict=True):
        assert (param - wanted).abs().max() < 1e-12


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_graph_that_is_first_visited_late_changes_as_if_visited_first(optimizer):
    """Its weights have their own step count, and did not change before.

    The same gradient is given in the first step of one model and in the eleventh of another. Seen
    to fail with one step count for all parameters of a group.
    """
    moved = []
    for first in (0, 10):
        model = small_model(three_graphs())
        c = config(optimizer, lr=0.01)
        step = make_optimizer([model], c)
        own = [*model.adapter("beta").parameters(), *model.head("beta").parameters()]
        before = [p.detach().clone() for p in own]
        for number in range(first + 1):
            for param in model.encoder.parameters():
                param.grad = torch.ones_like(param)
            if number == first:
                assert all(torch.equal(p, b) for p, b in zip(own, before, strict=True))
                for param in own:
                    param.grad = torch.linspace(-1, 2, param.numel()).view_as(param)
            step.step()
            step.zero_grad(set_to_none=True)
        moved.append([p.detach() - b for p, b in zip(own, before, strict=True)])
    for early, late in zip(*moved, strict=True):
        assert torch.equal(early, late)
        assert early.abs().max() > 0


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_saved_state_resumes_bit_for_bit(optimizer, tmp_path):
    """Seen to fail without load_state_dict."""

    def run(steps, start, state=None, weights=None):
        graphs = three_graphs()
        model = small_model(graphs)
        bank = GraphBank(graphs)
        c = config(optimizer, lr=3e-3)
        step = make_optimizer([model], c)
        if weights is not None:
            model.load_state_dict(weights)
            step.load_state_dict(state)
        going = train(
            model,
            Supervised().build(),
            step,
            lambda i: batch_of(bank, [i % 3, (i + 1) % 3]),
            c,
            seed=0,
            start=start,
        )
        for done in going:
            if done.number == steps:
                break
        return model.state_dict(), step.state_dict()

    straight, _ = run(8, 0)
    weights, state = run(3, 0)
    torch.save(state, tmp_path / "state.pt")
    resumed, _ = run(8, 3, torch.load(tmp_path / "state.pt", weights_only=True), weights)
    assert all(torch.equal(straight[name], value) for name, value in resumed.items())


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_weight_is_in_one_group(optimizer):
    model = small_model(three_graphs())
    groups = make_optimizer([model], config(optimizer)).param_groups
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert all(g["weight_decay"] == 0 for g in groups if g["params"][0].ndim < 2)


def test_muon_has_the_matrices_of_the_trunk_and_none_of_a_graph():
    model = small_model(three_graphs())
    optimizer = make_optimizer([model], config("muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    muon = {names[id(p)] for g in optimizer.parts[0].param_groups for p in g["params"]}
    assert all(name.startswith(("position.", "encoder.", "decoder.")) for name in muon)
    assert "encoder.latents" not in muon
    assert sum("attention.to_q" in name for name in muon) == sum(
        "attention.to_q" in name for name in names.values()
    )


def test_a_longer_stable_run_begins_as_the_shorter_one():
    """So one run gives many lengths; with a cosine it does not."""
    long, short = (TrainConfig(steps=n, warmup_steps=10, schedule="wsd") for n in (1000, 300))
    assert [lr_at(s, long) for s in range(240)] == [lr_at(s, short) for s in range(240)]
    assert lr_at(299, short) < 0.1 * lr_at(240, short)
    rates = [lr_at(s, short) for s in range(240, 300)]
    assert rates == sorted(rates, reverse=True)
    cosine = [TrainConfig(steps=n, warmup_steps=10) for n in (1000, 300)]
    assert not math.isclose(lr_at(200, cosine[0]), lr_at(200, cosine[1]))
