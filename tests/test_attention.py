"""Attention in parts, and by every backend, equals the attention of one softmax."""

import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

from graphfm.model.encoders.perceiver import Config
from graphfm.model.nn.attention import BACKENDS, backend_for, packed_attention, split_attention
from graphfm.model.nn.block import Block
from graphfm.model.nn.merge import Merge
from graphfm.model.nn.varlen import _zero_without_keys
from tests.graphs import stir

CU_Q, CU_K = (0, 100, 100, 356, 600, 700), (0, 300, 350, 350, 999, 1000)  # also no query, no key


def randn(*shape, dtype=torch.float32, grad=False, seed=0, device="cpu"):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return values.to(device).requires_grad_(grad)


def by_hand(q, k, v, mask):
    """Attention (B, N, H, E) over (B, M, H, E) by one softmax; mask (B, M)."""
    scores = torch.einsum("bnhe,bmhe->bhnm", q, k) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    return torch.einsum("bhnm,bmhe->bnhe", scores.softmax(-1), v)


@pytest.mark.parametrize("kernel", [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 100))
def test_parts_of_any_size_are_one_softmax_with_its_gradients(kernel, sizes, seed):
    """In float64, to 1e-10, with the kernel for CPUs and without.

    Seen to fail with a part's own log denominators in its backward pass, in place of the whole's.
    """
    keys, rows, width = sum(sizes), 3, dict(dtype=torch.float64, grad=True)
    q = randn(rows, 5, 2, 4, seed=seed, **width)
    k, v = (randn(rows, keys, 2, 4, seed=seed + i, **width) for i in (1, 2))
    mask = torch.rand(rows, keys, generator=torch.Generator().manual_seed(seed)) < 0.6
    mask[:, torch.tensor([0, *sizes]).cumsum(0)[:-1]] = True  # a part has a key for every row
    with sdpa_kernel(kernel):
        merge = Merge()
        pieces = zip(k.split(sizes, 1), v.split(sizes, 1), mask.split(sizes, 1), strict=True)
        out = merge.whole([merge.part(q, *piece) for piece in pieces])
        grad = randn(*out.shape, dtype=torch.float64, seed=seed)
        mine = torch.autograd.grad(out, (q, k, v), grad)
    wanted = by_hand(q, k, v, mask)
    torch.testing.assert_close(out, wanted, rtol=1e-10, atol=1e-10)
    for one, other in zip(mine, torch.autograd.grad(wanted, (q, k, v), grad), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_score_of_a_thousand_does_not_overflow():
    q, k, v = (randn(1, 3, 1, 4, seed=i) for i in range(3))
    merge = Merge()
    k = 1e3 * k
    out = merge.whole([merge.part(q, k[:, :1], v[:, :1]), merge.part(q, k[:, 1:], v[:, 1:])])
    torch.testing.assert_close(out, by_hand(q, k, v, torch.ones(1, 3, dtype=torch.bool)))


@pytest.mark.parametrize("size", [1, 7, 64, 100, 1000])
def test_split_attention_equals_unsplit(size):
    """Values to 1e-5 and gradients of queries, tokens and weights to 1e-4 of their size.

    Seen to fail with the last chunk left out, and with the whole's output left out of the merge.
    """
    block = Block(16, 2, 2, is_cross=True)
    stir(block)
    results = []
    for split in (False, True):
        q, tokens = randn(6, 2, 8, grad=True), randn(100, 16, grad=True, seed=1)
        if split:
            out = split_attention(q, tokens, block.keys_values, size)
        else:
            out = packed_attention(q, *block.keys_values(tokens), (0, 6), (0, 100))
        block.zero_grad()
        (out * randn(6, 2, 8, seed=2)).sum().backward()
        weights = [p.grad.clone() for p in block.parameters() if p.grad is not None]
        results.append([out.detach(), q.grad, tokens.grad, *weights])
    assert len(results[0]) == 6  # to_kv and the key norm
    for one, other in zip(*results, strict=True):
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


def test_an_encoder_splits_large_contexts_without_a_change():
    """Also beside a small graph and an empty one. Seen to fail with chunks of another graph."""
    encoder = Config(num_latents=5, depth=1, num_heads=2).build(dim=16)
    stir(encoder)
    tokens, ptr = randn(90, 16, grad=True), (0, 70, 70, 90)
    results = []
    for split_above in (1000, 16):
        encoder.split_above, tokens.grad = split_above, None
        encoder.zero_grad()
        out = encoder(tokens, ptr)
        out.square().sum().backward()
        results.append([out.detach(), tokens.grad, *(p.grad for p in encoder.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_split_context_keeps_no_keys_and_values():
    """Memory held by autograd does not grow with the tokens, apart from the tokens themselves.

    Seen to fail without the checkpoint: 4 times the tokens.
    """
    block = Block(16, 2, 2, is_cross=True)
    held = []
    for num_tokens in (256, 1024):
        tokens, kept = randn(num_tokens, 16, grad=True), {}

        def keep(x, tokens=tokens, kept=kept):
            if x.untyped_storage().data_ptr() != tokens.untyped_storage().data_ptr():
                kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            out = split_attention(randn(6, 2, 8, grad=True), tokens, block.keys_values, 256)
        held.append(sum(kept.values()))
        assert out.requires_grad
    assert held[1] <= held[0] + 3 * 4 * (6 * 2 * 8 + 6 * 2 + 64)  # output and denominators


def test_the_output_of_a_kernel_without_keys_is_set_to_0():
    """Seen to fail without it: the kernel of CUDA may return NaN."""
    out = _zero_without_keys(torch.full((700, 2, 4), torch.nan), CU_Q, CU_K)
    without = torch.zeros(700, dtype=torch.bool)
    without[CU_Q[2] : CU_Q[3]] = True
    assert torch.equal(out.isnan().all(dim=2).all(dim=1), ~without)
    assert not out[without].any()


@pytest.mark.gpu
def test_the_kernel_of_cuda_equals_the_loop():
    """Values and gradients, bf16 to 2% of their size."""
    results = []
    for name in ("loop", "varlen"):
        shapes = ((700, 2, 32), (1000, 2, 32), (1000, 2, 32))
        q, k, v = (
            randn(*shape, seed=i, dtype=torch.bfloat16, device="cuda").requires_grad_()
            for i, shape in enumerate(shapes)
        )
        out = packed_attention(q, k, v, CU_Q, CU_K, backend=name)
        out.backward(randn(*out.shape, seed=3, dtype=torch.bfloat16, device="cuda"))
        results.append([out.detach(), q.grad, k.grad, v.grad])
    for one, other in zip(*results, strict=True):
        assert (one.float() - other.float()).norm() <= 0.02 * other.float().norm()


def test_the_backend_is_chosen_in_one_place(monkeypatch):
    monkeypatch.delenv("GRAPHFM_ATTENTION", raising=False)
    on_meta = torch.empty(1, 1, 1, device="meta")
    assert backend_for(randn(1, 1, 1)) == backend_for(on_meta) == "loop"
    monkeypatch.setenv("GRAPHFM_ATTENTION", "varlen")
    assert backend_for(randn(1, 1, 1)) == "varlen"
    assert set(BACKENDS) == {"loop", "varlen"}


def test_a_backward_pass_leaves_nothing_behind():
    """Neither inputs nor outputs stay alive; a leak per step would fill any memory in a week.

    Seen to fail (both alive) where the backward pass kept the output with the node that made it.
    """
    q, k, v = (torch.randn(2, 5, 2, 8, requires_grad=True) for _ in range(3))
    merge = Merge()
    parts = [merge.part(q * 1, k[:, s], v[:, s]) for s in (slice(0, 2), slice(2, None))]
    out = merge.whole(parts)
    left = [weakref.ref(out), weakref.ref(merge)]
    out.sum().backward()
    del out, merge, parts
    assert [ref() for ref in left] == [None, None]
