"""GraphFM: adapters -> Perceiver encoder -> decoder -> heads (Lachi et al., arXiv 2407.11907).

    token of node v      t_v = adapter_g(x_v) + encoding(v)                       (N, D)
    latents of graph g   z_g = encoder({t_v : v in context of g})                 (K, D)
    state of target q    s_q = decoder(t_q, {t_u : u in T neighbors of q}, z_g)   (Q, D)
    prediction           head_g(s_q)

Shapes:
    B  graphs   N  tokens   Q  targets   T  neighbors   K  latents   D  width   C  classes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphfm.checkpoint.hub import Pretrained
from graphfm.config.parts import config_class, validated
from graphfm.config.recipe import ModelConfig
from graphfm.errors import DataError
from graphfm.graphs.spec import GraphSpec
from graphfm.model.nn.position import SignInvariantEncoding
from graphfm.sampling.batch import GraphBatch
from graphfm.sampling.plan import StepCost

PREFIX = "graph_"  # nn.ModuleDict refuses names such as "train" or "type"
UNIVERSAL_FEATURES = 256  # columns of the shared adapter: the most that a feature transform gives


class Trunk(nn.Module):
    """What all graphs share, as one module: the part of a step that many processes wrap.

    Args:
        model: Whose trunk. Its weights stay the model's own, under the model's names.
    """

    def __init__(self, model: GraphFM):
        super().__init__()
        for name, part in model.trunk.items():
            self.add_module(name, part)
        self._states = model.states

    def forward(self, adapted: Tensor, batch: GraphBatch) -> Tensor:
        """Adapted features of the batch (N, D) -> states of its targets (Q, D)."""
        return self._states(adapted, batch)


class GraphFM(Pretrained, nn.Module):
    """One trunk for all graphs, an adapter and a head for each.

    Args:
        config: The shape.
        seed: Of the trunk's first weights.

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
            num_heads = getattr(part, "num_heads", 1)  # a part without attention has none
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
        self._wrapped: tuple[nn.Module, ...] = ()  # in a tuple: not a second owner of its weights
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
        """A fresh model of a shape that :meth:`config` gave."""
        model = cls(validated(ModelConfig, config, path="model"), seed=seed)
        for spec in specs:
            model.add_graph(spec)
        return model

    def config(self) -> dict[str, Any]:
        """The shape as plain data."""
        return self.shape.model_dump(mode="json")

    def add_graph(self, spec: GraphSpec) -> None:
        """Take in a dataset: it gets an adapter and a head of its own.

        No adapter where every visit takes the universal one.

        Raises:
            DataError: GFM121 for a name that is taken.
        """
        if spec.name in self.specs:
            raise DataError("GFM121", f"the model already has a graph named {spec.name!r}")
        dim = self.shape.dim
        head = config_class("model.heads", spec.task.kind)()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            adapter = None
            if self.shape.universal_share < 1:
                adapter = self.shape.adapter.build(num_features=spec.num_features, dim=dim)
            reads = {"num_experts": spec.num_experts} if spec.num_experts > 1 else {}
            built = head.build(dim=dim + spec.num_raw, num_classes=spec.task.num_classes, **reads)
        device = self.device
        if adapter is not None:
            adapter.begin_as(self.universal)
            self.adapters[PREFIX + spec.name] = adapter.to(device)
        self.heads[PREFIX + spec.name] = built.to(device)
        self.specs[spec.name] = spec

    def drop_graph(self, name: str) -> None:
        """Forget a dataset's adapter and head."""
        if PREFIX + name in self.adapters:
            del self.adapters[PREFIX + name]
        del self.heads[PREFIX + name], self.specs[name]

    def adapter(self, name: str) -> Any:
        """The adapter of a dataset: its own, or the universal one where it has none."""
        known = self._known(name)
        return self.adapters[known] if known in self.adapters else self.universal

    def head(self, name: str) -> Any:
        """The head of a dataset."""
        return self.heads[self._known(name)]

    def forward(self, batch: GraphBatch) -> list[Tensor]:
        """Logits of each graph's targets, B times (Q_b, C_b)."""
        return self.predict(batch, self.states_of(batch))

    def states_of(self, batch: GraphBatch) -> Tensor:
        """States of the batch's targets (Q, D), through the wrapped trunk where it is wrapped."""
        through = self._wrapped[0] if self._wrapped else self.states
        return through(self.adapted(batch), batch)

    def wrap_trunk(self, wrap: Callable[[Trunk], nn.Module]) -> nn.Module:
        """From now on :meth:`forward` goes through ``wrap(trunk)``, which is given back."""
        self._wrapped = (wrap(Trunk(self)),)
        return self._wrapped[0]

    def states(self, adapted: Tensor, batch: GraphBatch) -> Tensor:
        """Adapted features of the batch (N, D) -> states of its targets (Q, D)."""
        tokens = adapted + self.position(batch.pe)
        return self.decode(batch, tokens, self.encode(batch, tokens))

    def embed(self, batch: GraphBatch) -> Tensor:
        """Tokens of the batch (N, D)."""
        return self.adapted(batch) + self.position(batch.pe)

    def adapted(self, batch: GraphBatch) -> Tensor:
        """Features of the batch's tokens at the trunk's width (N, D), already in packed order."""
        return torch.cat([self.adapt(n, x) for n, x in zip(batch.names, batch.x, strict=True)])

    def adapt(self, name: str, x: Tensor) -> Tensor:
        """Transformed features of one graph (N, F) -> (N, D), without their positions.

        In training a share of visits takes the universal adapter, so that the trunk also knows
        graphs whose own adapter has not learned anything yet. If all do, there is no other.
        """
        adapter = self.adapter(name)
        drawn = self.training and float(torch.rand(())) < self.shape.universal_share
        if drawn or adapter is self.universal:
            return self.universal(self._turned(x))
        return adapter(x)

    def _turned(self, x: Tensor) -> Tensor:
        """Features at the universal adapter's width, in training turned anew at each visit."""
        wide, turn = F.pad(x, (0, UNIVERSAL_FEATURES - x.shape[1])), self.shape.universal_turn
        if turn == "none" or not self.training:
            return wide
        signs = 2.0 * torch.randint(0, 2, (UNIVERSAL_FEATURES,)) - 1
        if turn == "signs":
            return wide * signs.to(wide)
        mix = torch.randn(x.shape[1], x.shape[1])
        return F.pad(x @ torch.linalg.qr(mix)[0].to(x), (0, UNIVERSAL_FEATURES - x.shape[1]))

    def encode(self, batch: GraphBatch, tokens: Tensor) -> Tensor:
        """Tokens (N, D) -> latents (B, K, D)."""
        return self.encoder(tokens[batch.context], batch.context_ptr)

    def decode(self, batch: GraphBatch, tokens: Tensor, latents: Tensor) -> Tensor:
        """States of the targets (Q, D)."""
        return self.decoder(
            tokens[batch.query],
            tokens[batch.neighbors],
            batch.neighbor_mask,
            latents,
            batch.query_ptr,
        )

    def predict(self, batch: GraphBatch, states: Tensor) -> list[Tensor]:
        """States (Q, D) -> logits of each graph, B times (Q_b, C_b)."""
        logits = []
        # split, not slices: the gradient of a slice is as large as all states
        for name, own, raw in zip(batch.names, states.split(batch.sizes), batch.raw, strict=True):
            logits.append(self.head(name)(own if raw is None else torch.cat([own, raw], dim=1)))
        return logits

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.universal.parameters()).device

    @property
    def trunk(self) -> dict[str, nn.Module]:
        """What all graphs share."""
        return {"position": self.position, "encoder": self.encoder, "decoder": self.decoder}

    def num_params(self) -> dict[str, int]:
        """Parameters by group; ``trunk`` is position, encoder and decoder together."""
        own = {"universal": self.universal, "adapter": self.adapters, "head": self.heads}
        groups = {**self.trunk, **own}
        counts = {k: sum(p.numel() for p in m.parameters()) for k, m in groups.items()}
        counts["total"] = sum(counts.values())
        counts["trunk"] = counts["total"] - sum(counts[name] for name in own)
        assert counts["total"] == sum(p.numel() for p in self.parameters())
        return counts

    def flops(self, batch: GraphBatch) -> int:
        """Multiply-adds times 2 of a forward pass; forward and backward together cost three."""
        tokens = sum(
            self.adapter(name).flops(len(x)) for name, x in zip(batch.names, batch.x, strict=True)
        )
        heads = sum(
            2 * size * self.head(name).score.weight.numel()
            for name, size in zip(
                batch.names, torch.tensor(batch.query_ptr).diff().tolist(), strict=True
            )
        )
        num_neighbors = batch.neighbors.shape[1]
        num_graphs = len(batch.names)
        return (
            tokens
            + self.position.flops(len(batch.pe))
            + self.encoder.flops(len(batch.context), num_graphs)
            + self.decoder.flops(
                batch.num_targets, num_neighbors, num_graphs, self.encoder.num_latents
            )
            + heads
        )

    def step_cost(self, num_neighbors: int) -> StepCost:
        """What a graph and a context node cost beside a target, for the plan."""
        num_latents = self.encoder.num_latents
        usual = self.shape.adapter.build(num_features=128, dim=self.shape.dim)
        token = self.position.flops(1) + usual.flops(1)
        graph = self.encoder.flops(0, 2) - self.encoder.flops(0, 1)
        graph += self.decoder.flops(0, num_neighbors, 1, num_latents)
        context = self.encoder.flops(1, 1) - self.encoder.flops(0, 1)
        context += token if num_latents else 0.0  # without an encoder no context is made
        target = self.decoder.flops(1, num_neighbors, 0, num_latents)
        target += (1 + num_neighbors) * token
        return StepCost(graph=graph / target, context_node=context / target)

    def _known(self, name: str) -> str:
        if name not in self.specs:
            raise DataError(
                "GFM122",
                f"the model has no graph named {name!r}",
                fix="model.add_graph(spec) first; known: " + ", ".join(list(self.specs)[:5]),
            )
        return PREFIX + name
