"""Decoders: attention masks, tiles, recomputation, and FLOP counts."""

from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from graphfm.config.parts import config_class, kinds
from graphfm.model.encoders import perceiver
from graphfm.model.nn.attention import attention
from tests.graphs import stir

DECODERS = kinds("model.decoders")
READERS = [kind for kind in DECODERS if config_class("model.decoders", kind).reads_latents]
LOCAL = [kind for kind in DECODERS if kind not in READERS]  # controls: no latents
TILED = [kind for kind in DECODERS if kind != "none"]  # that one is two lines
PTR = (0, 5, 5, 9)  # the second graph has no target here


def built(kind, *, double=True, **fields):
    torch.manual_seed(0)
    module = config_class("model.decoders", kind)(**{"depth": 3, **fields}).build(dim=32)
    stir(module)
    return (module.double() if double else module).eval()


def inputs(*, num_targets=9, num_neighbors=4, num_graphs=3, dtype=torch.float64):
    rng = torch.Generator().manual_seed(1)
    local = torch.randn(num_targets, 1 + num_neighbors, 32, generator=rng, dtype=dtype)
    mask = torch.rand(num_targets, num_neighbors, generator=rng) < 0.7
    latents = torch.randn(num_graphs, 7, 32, generator=rng, dtype=dtype)
    return local[:, 0], local[:, 1:], mask, latents


def leaves(tensors):
    return [x.clone().requires_grad_(x.is_floating_point()) for x in tensors]


def with_gradients(module, tensors, ptr):
    """Return the output and the gradients of inputs and weights."""
    tensors = leaves(tensors)
    module.zero_grad()
    out = module(*tensors, ptr)
    out.pow(3).sum().backward()  # the sum of squares is all but fixed by the norm
    grads = [x.grad for x in tensors if x.is_floating_point()]
    return [out.detach(), *grads, *(p.grad.clone() for p in module.parameters())]


def reference(module, target, neighbors, mask, latents, owner, may_read, updated):
    """Joint attention over the whole row, with masks of the tokens that read and are updated.

    Args:
        module: Any decoder: only its weights are used.
        target: (Q, D), and so on as decoders have them.
        neighbors: (Q, T, D).
        mask: (Q, T).
        latents: (B, K, D).
        owner: (Q,) graph of each target.
        may_read: (R, R) over rows of R = 1 + T + K tokens.
        updated: (R,) False = the token keeps its first state.
    """
    local = [(target + module.roles[0])[:, None], neighbors + module.roles[1]]
    x = torch.cat([*local, latents[owner]], dim=1)
    there = torch.ones(x.shape[:2], dtype=torch.bool)
    there[:, 1 : 1 + mask.shape[1]] = mask
    for layer in module.layers:
        k, v = layer.keys_values(x)
        read = attention(layer.queries(x), k, v, there[:, None, None] & may_read)
        x = torch.where(updated[:, None], layer.update(x, read), x)
    return module.norm(x[:, 0])


@pytest.mark.parametrize("kind", READERS)
def test_a_decoder_is_joint_attention_under_its_own_mask(kind):
    """joint: all tokens read all. prefix: latents read latents. self_query: only the target reads.

    Values and gradients in float64 to 1e-9. Seen to fail with each kind under another's mask.
    """
    module, tensors = built(kind), inputs()
    owner = torch.tensor([0] * 5 + [2] * 4)
    size, num_local = 1 + 4 + 7, 1 + 4
    may_read = torch.ones(size, size, dtype=torch.bool)
    updated = torch.ones(size, dtype=torch.bool)
    if kind == "prefix":
        may_read[num_local:, :num_local] = False
    if kind == "self_query":
        updated[1:] = False
    mine = with_gradients(module, tensors, PTR)
    tensors = leaves(tensors)
    module.zero_grad()
    wanted = reference(module, *tensors, owner, may_read, updated)
    wanted.pow(3).sum().backward()
    grads = [x.grad for x in tensors if x.is_floating_point()]
    theirs = [wanted.detach(), *grads, *(p.grad for p in module.parameters())]
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_three_read_differently_with_the_same_weights():
    """The weights of each load into the others. With one layer, all are the same function."""
    tensors = inputs()
    for depth in (1, 3):
        outs = []
        for kind in READERS:
            module = built(kind, depth=depth)
            module.load_state_dict(built("joint", depth=depth).state_dict())
            outs.append(module(*tensors, PTR))
        for out in outs[1:]:
            assert torch.allclose(out, outs[0], atol=1e-9) == (depth == 1)


@pytest.mark.parametrize("tile", [1, 2, 4, 100])
@pytest.mark.parametrize("kind", TILED)
def test_tiles_of_any_size_give_the_same(kind, tile, monkeypatch):
    """Tiles cut through graphs here. Seen to fail with boundaries not moved to the tile."""
    module, tensors = built(kind), inputs()
    wanted = with_gradients(module, tensors, PTR)
    monkeypatch.setattr(module, "tile_size", lambda *_: tile)
    for one, other in zip(with_gradients(module, tensors, PTR), wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", TILED)
def test_recomputing_gives_the_same_and_keeps_less(kind, monkeypatch):
    """In float32, to 1e-6. Seen to fail to keep less with ``recompute`` not read."""
    tensors = inputs(dtype=torch.float32)
    results, held = [], []
    for recompute in (False, True):
        module = built(kind, double=False, recompute=recompute)
        monkeypatch.setattr(module, "tile_size", lambda *_: 4)
        results.append(with_gradients(module, tensors, PTR))
        held.append(bytes_held(lambda module=module: module(*leaves(tensors), PTR)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert held[1] < 0.7 * held[0]


def test_a_recomputing_encoder_gives_the_same_and_keeps_less():
    tokens, results, held = inputs()[1].flatten(0, 1), [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        encoder = perceiver.Config(num_latents=8, recompute=recompute).build(dim=32).double()
        tokens = tokens.detach().requires_grad_()
        encoder(tokens, (0, 20, 36)).square().sum().backward()
        results.append([tokens.grad, *(p.grad for p in encoder.parameters())])
        tokens.grad = None
        held.append(bytes_held(partial(encoder, tokens, (0, 20, 36))))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    assert held[1] < 0.7 * held[0]


def bytes_held(forward):
    """Return the bytes of all tensors that autograd keeps for the backward pass."""
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = forward()
    assert out.requires_grad
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize("kind", DECODERS)
def test_graphs_do_not_see_each_other_and_packed_is_one_at_a_time(kind):
    module = built(kind)
    target, neighbors, mask, latents = inputs()
    packed = module(target, neighbors, mask, latents, PTR)
    for b in (0, 2):
        own = slice(PTR[b], PTR[b + 1])
        alone = module(
            target[own], neighbors[own], mask[own], latents[b, None], (0, len(mask[own]))
        )
        torch.testing.assert_close(packed[own], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", DECODERS)
def test_the_order_of_neighbors_and_padding_say_nothing(kind):
    module = built(kind)
    target, neighbors, mask, latents = inputs()
    wanted = module(target, neighbors, mask, latents, PTR)
    order = torch.tensor([2, 0, 3, 1])
    turned = module(target, neighbors[:, order], mask[:, order], latents, PTR)
    torch.testing.assert_close(turned, wanted, rtol=1e-10, atol=1e-10)
    wider = torch.cat([neighbors, torch.randn(9, 2, 32).double()], dim=1)
    padded = torch.cat([mask, torch.zeros(9, 2, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(module(target, wider, padded, latents, PTR), wanted)


@pytest.mark.parametrize("kind", DECODERS)
def test_what_is_not_there_may_be_nan(kind):
    """Neither output nor gradient changes. Seen to fail without ``masked_fill`` on tokens."""
    module = built(kind)
    target, neighbors, mask, latents = inputs()
    wanted = with_gradients(module, (target, neighbors, mask, latents), PTR)
    neighbors = neighbors.masked_fill(~mask[..., None], float("nan"))
    found = with_gradients(module, (target, neighbors, mask, latents), PTR)
    assert not mask.all()
    for one, other in zip(found, wanted, strict=True):
        assert one is other is None or torch.equal(one, other)  # None: of what is not read


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize(
    "sizes", [{"num_targets": 0}, {"num_neighbors": 0}, {"num_targets": 0, "num_neighbors": 0}]
)
def test_nothing_to_read_is_no_error(kind, sizes):
    module, tensors = built(kind), inputs(**sizes)
    num_targets = len(tensors[0])
    out = module(*tensors, (0, 0, 0, num_targets))
    assert out.shape == (num_targets, 32) and torch.isfinite(out).all()
    target, neighbors, mask, latents = tensors
    lonely = module(target, neighbors, torch.zeros_like(mask), latents, (0, 0, 0, num_targets))
    assert torch.isfinite(lonely).all()


@pytest.mark.parametrize("kind", DECODERS)
def test_flops_are_torchs_own_count(kind):
    """Every product, exactly. Seen to fail with the tokens' keys counted in the last layer."""
    module = built(kind, ffn_mult=3)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        module(*inputs(), PTR)
    assert module.flops(9, 4, 3, 7) == counter.get_total_flops()


def test_flops_of_the_encoder_are_torchs_own_count():
    encoder = perceiver.Config(num_latents=8).build(dim=32).double()
    for split_above in (1000, 7):
        encoder.split_above = split_above
        tokens = inputs()[1].flatten(0, 1)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            encoder(tokens, (0, 20, 36))
        assert encoder.flops(36, 2) == counter.get_total_flops()
