"""GraphFM: adapters -> Perceiver encoder -> decoder -> heads (Lachi et al., arXiv 2407.11907).

    token of node v      t_v = adapter_g(x_v) + position(v)                       (N, D)
    latents of graph g   z_g = encoder({t_v : v in context of g})                 (K, D)
    state of target q    s_q = decoder(t_q, {t_u : u in T neighbors of q}, z_g)   (Q, D)
    logits of target q   head_g(s_q)                                              (Q, C)

Shapes:
    B  graphs   N  tokens   Q  targets   T  neighbors   K  latents   D  width   C  classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphfm.checkpoint.pretrained import Pretrained
from graphfm.config.parts import config_class, validated
from graphfm.config.recipe import ModelConfig
from graphfm.errors import DataError
from graphfm.graphs.spec import GraphSpec
from graphfm.model.nn.position import SignInvariantEncoding
from graphfm.model.nn.rows import take_rows
from graphfm.sampling.batch import GraphBatch

PREFIX = "graph_"  # nn.ModuleDict refuses names such as "train" or "type"
UNIVERSAL_FEATURES = 256  # columns of the universal adapter: the most that a transform returns


class Trunk(nn.Module):
    """Position encoding, encoder and decoder as one module, for data-parallel wrappers.

    Args:
        model: The model. The trunk shares its weights, under the same names.
    """

    def __init__(self, model: GraphFM):
        super().__init__()
        for name, part in model.trunk.items():
            self.add_module(name, part)
        self._run = model.run_trunk

    def forward(self, features: Tensor, batch: GraphBatch) -> Tensor:
        """Adapted features (N, D) -> node states (Q, D)."""
        return self._run(features, batch)


class GraphFM(Pretrained, nn.Module):
    """A trunk that all graphs share, with an adapter and a head for each graph.

    1. Input: the adapter of a graph maps its features to width D; position encodings are added.
    2. Encode: K learned latents of each graph read the tokens of its context.
    3. Decode: each target reads its sampled neighbors and the latents of its graph.
    4. Predict: the head of the graph maps the node state to logits.

    Args:
        config: Shape of the model.
        seed: Seed of the initial weights of the trunk.

    Example:
        >>> from graphfm.config.recipe import ModelConfig
        >>> from graphfm.graphs.spec import GraphSpec, TaskSpec
        >>> model = GraphFM(ModelConfig(dim=32), seed=0)
        >>> task = TaskSpec(num_classes=3)
        >>> model.add_graph(GraphSpec(name="mine", num_features=5, task=task))
        >>> model.num_params()["head"]
        99
    """

    def __init__(self, config: ModelConfig, *, seed: int):
        super().__init__()
        for name, part in {"encoder": config.encoder, "decoder": config.decoder}.items():
            num_heads = getattr(part, "num_heads", 1)  # a part without attention has no heads
            if config.dim % num_heads:
                raise DataError(
                    "GFM208",
                    f"dim must be a multiple of num_heads: dim={config.dim}, {name} "
                    f"{num_heads} heads",
                )
        self.shape = config
        self.specs: dict[str, GraphSpec] = {}
        self.about = {}
        self.extra = {}
        self.adapters = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        # In a tuple, so that nn.Module does not register its weights a second time.
        self._wrapped: tuple[nn.Module, ...] = ()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.position = SignInvariantEncoding(config.dim, config.num_eigenvectors)
            self.encoder = config.encoder.build(dim=config.dim)
            self.decoder = config.decoder.build(dim=config.dim)
            self.universal = config.adapter.build(num_features=UNIVERSAL_FEATURES, dim=config.dim)

    @classmethod
    def from_config(
        cls, config: dict[str, Any], *, seed: int = 0, specs: Sequence[GraphSpec] = ()
    ) -> Self:
        """Build a model with fresh weights.

        Args:
            config: Shape of the model, as :meth:`config` returns it.
            seed: Seed of the initial weights of the trunk.
            specs: Graphs to add.
        """
        model = cls(validated(ModelConfig, config, path="model"), seed=seed)
        for spec in specs:
            model.add_graph(spec)
        return model

    def config(self) -> dict[str, Any]:
        """Return the shape of the model as plain data."""
        return self.shape.model_dump(mode="json")

    # The forward pass, in the order of the figure: input, latents, states, predictions.

    def forward(self, batch: GraphBatch) -> list[Tensor]:
        """Return the logits of each graph's targets, B times (Q_b, C_b)."""
        states = self.embed(batch)  # (Q, D)
        return self.predict(batch, states)

    def embed(self, batch: GraphBatch) -> Tensor:
        """Return the node states of the targets (Q, D): the output of the decoder."""
        features = self.adapt(batch)  # (N, D)
        trunk = self._wrapped[0] if self._wrapped else self.run_trunk
        return trunk(features, batch)

    def run_trunk(self, features: Tensor, batch: GraphBatch) -> Tensor:
        """Adapted features (N, D) -> node states (Q, D), without a wrapper around the trunk."""
        tokens = features + self.position(batch.pe)  # (N, D)
        latents = self.encode(batch, tokens)  # (B, K, D)
        return self.decode(batch, tokens, latents)

    def tokens(self, batch: GraphBatch) -> Tensor:
        """Return the tokens of the batch (N, D)."""
        return self.adapt(batch) + self.position(batch.pe)

    def adapt(self, batch: GraphBatch) -> Tensor:
        """Map the features of every graph to the width of the trunk (N, D), in packed order."""
        graphs = zip(batch.names, batch.x, strict=True)
        return torch.cat([self.adapt_graph(name, x) for name, x in graphs])

    def encode(self, batch: GraphBatch, tokens: Tensor) -> Tensor:
        """Tokens (N, D) -> latents (B, K, D)."""
        return self.encoder(take_rows(tokens, batch.context), batch.context_ptr)

    def decode(self, batch: GraphBatch, tokens: Tensor, latents: Tensor) -> Tensor:
        """Tokens (N, D) and latents (B, K, D) -> node states of the targets (Q, D)."""
        return self.decoder(
            take_rows(tokens, batch.query),
            take_rows(tokens, batch.neighbors),
            batch.neighbor_mask,
            latents,
            batch.query_ptr,
        )

    def predict(self, batch: GraphBatch, states: Tensor) -> list[Tensor]:
        """Node states (Q, D) -> logits of each graph's targets, B times (Q_b, C_b)."""
        logits = []
        # split, not slices: the gradient of a slice is as large as all states
        for name, own, raw in zip(batch.names, states.split(batch.sizes), batch.raw, strict=True):
            logits.append(self.head(name)(own if raw is None else torch.cat([own, raw], dim=1)))
        return logits

    # Adapters and heads.

    def add_graph(self, spec: GraphSpec) -> None:
        """Add an adapter and a head for a dataset.

        The dataset gets no adapter if ``universal_share`` is 1: all features then pass the
        universal adapter.

        Raises:
            DataError: GFM121 if the model already has a graph of this name.
        """
        if spec.name in self.specs:
            raise DataError("GFM121", f"the model already has a graph named {spec.name!r}")
        dim = self.shape.dim
        config = config_class("model.heads", spec.task.kind)()
        experts = {"num_experts": spec.num_experts} if spec.num_experts > 1 else {}
        adapter = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if self.shape.universal_share < 1:
                adapter = self.shape.adapter.build(num_features=spec.num_features, dim=dim)
            head = config.build(
                dim=dim + spec.num_raw, num_classes=spec.task.num_classes, **experts
            )
        device = self.device
        if adapter is not None:
            adapter.copy_from(self.universal)
            self.adapters[PREFIX + spec.name] = adapter.to(device)
        self.heads[PREFIX + spec.name] = head.to(device)
        self.specs[spec.name] = spec

    def drop_graph(self, name: str) -> None:
        """Remove the adapter and the head of a dataset."""
        if PREFIX + name in self.adapters:
            del self.adapters[PREFIX + name]
        del self.heads[PREFIX + name], self.specs[name]

    def adapter(self, name: str) -> Any:
        """Return the adapter of a dataset; the universal one if the dataset has none."""
        key = self._key(name)
        return self.adapters[key] if key in self.adapters else self.universal

    def head(self, name: str) -> Any:
        """Return the head of a dataset."""
        return self.heads[self._key(name)]

    def adapt_graph(self, name: str, x: Tensor) -> Tensor:
        """Transformed features of one graph (N, F) -> (N, D), without position encodings.

        In training a share of the visits passes the universal adapter, so that the trunk also
        learns from graphs whose own adapter is untrained.
        """
        adapter = self.adapter(name)
        drawn = self.training and float(torch.rand(())) < self.shape.universal_share
        if drawn or adapter is self.universal:
            return self.universal(self._universal_input(x))
        return adapter(x)

    def _universal_input(self, x: Tensor) -> Tensor:
        """Pad features (N, F) to the universal adapter's width; in training, also turn them.

        ``universal_turn`` chooses random signs of the columns or a random rotation, anew at each
        visit.
        """
        wide, turn = F.pad(x, (0, UNIVERSAL_FEATURES - x.shape[1])), self.shape.universal_turn
        if turn == "none" or not self.training:
            return wide
        signs = 2.0 * torch.randint(0, 2, (UNIVERSAL_FEATURES,)) - 1
        if turn == "signs":
            return wide * signs.to(wide)
        mix = torch.randn(x.shape[1], x.shape[1])
        return F.pad(x @ torch.linalg.qr(mix)[0].to(x), (0, UNIVERSAL_FEATURES - x.shape[1]))

    def _key(self, name: str) -> str:
        if name not in self.specs:
            raise DataError(
                "GFM122",
                f"the model has no graph named {name!r}",
                fix="model.add_graph(spec) first; known: " + ", ".join(list(self.specs)[:5]),
            )
        return PREFIX + name

    # The weights.

    @property
    def trunk(self) -> dict[str, nn.Module]:
        """The modules that all graphs share, by name."""
        return {"position": self.position, "encoder": self.encoder, "decoder": self.decoder}

    def wrap_trunk(self, wrap: Callable[[Trunk], nn.Module]) -> nn.Module:
        """Send :meth:`embed` through ``wrap(trunk)`` from now on, and return that module."""
        self._wrapped = (wrap(Trunk(self)),)
        return self._wrapped[0]

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.universal.parameters()).device

    def num_params(self) -> dict[str, int]:
        """Count parameters by group; ``trunk`` is position, encoder and decoder together."""
        own = {"universal": self.universal, "adapter": self.adapters, "head": self.heads}
        groups = {**self.trunk, **own}
        counts = {k: sum(p.numel() for p in m.parameters()) for k, m in groups.items()}
        counts["total"] = sum(counts.values())
        counts["trunk"] = counts["total"] - sum(counts[name] for name in own)
        assert counts["total"] == sum(p.numel() for p in self.parameters())
        return counts
