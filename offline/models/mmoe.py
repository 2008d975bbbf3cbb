"""Multi-gate mixture of experts (Ma et al., KDD 2018, section 4.2) with normalised Swish experts.

    features -> standardise -> E experts -> one softmax gate a task -> task tower -> logit

LayerNorm and SiLU in the experts answer the collapse that HoME (Kuaishou 2024) reports for plain ReLU experts: over
90% zero activations and experts that serve a single task. Where the data knows views and carts, the towers of the
funnel give conditional probabilities over the whole space of candidates (ESMM, Ma et al., SIGIR 2018):
p(purchase) = p(view) p(cart | view) p(purchase | cart).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLAMP = 8.0
CHUNK = 65_536  # rows
FUNNEL = ("view", "cart", "purchase")  # wide to narrow


@dataclass(frozen=True)
class MMOEConfig:
    n_features: int
    tasks: tuple[str, ...]
    n_experts: int = 4
    hidden: int = 96
    expert_dim: int = 48
    tower_dim: int = 24
    dropout: float = 0.0


class MMOE(nn.Module):
    """(B, F) raw features -> (B, tasks): log1p amount of `spend`, logits of the others' (joint) probabilities."""

    def __init__(self, config: MMOEConfig) -> None:
        super().__init__()
        self.config = config
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(config.n_features))
        self.register_buffer("std", torch.ones(config.n_features))
        width = config.n_features
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(width, config.hidden),
                nn.LayerNorm(config.hidden),
                nn.SiLU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.hidden, config.expert_dim),
                nn.LayerNorm(config.expert_dim),
                nn.SiLU(),
                nn.Dropout(config.dropout),
            )
            for _ in range(config.n_experts)
        )
        self.gates = nn.ModuleList(nn.Linear(width, config.n_experts) for _ in config.tasks)
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(config.expert_dim, config.tower_dim), nn.SiLU(), nn.Linear(config.tower_dim, 1))
            for _ in config.tasks
        )

    def standardise_by(self, features: npt.NDArray[np.float32]) -> None:
        """Take mean and spread from float32[n, F] training rows."""
        mean, spread = moments(features)
        with torch.no_grad():
            self.mean.copy_(torch.from_numpy(mean))
            # A feature that never varies would be blown up by its own rounding noise.
            self.std.copy_(torch.from_numpy(np.where(spread < 1e-4, 1.0, spread)))

    def standardise(self, features: Tensor) -> Tensor:
        """(B, F), within CLAMP of 0 whatever comes in."""
        return ((features - self.mean) / self.std).clamp(-CLAMP, CLAMP)

    def gate_weights(self, features: Tensor) -> Tensor:
        """(B, tasks, experts), each row sums to 1."""
        x = self.standardise(features)
        return torch.stack([torch.softmax(gate(x), dim=-1) for gate in self.gates], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.standardise(features)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        outputs: dict[str, Tensor] = {}
        for task, gate, tower in zip(self.config.tasks, self.gates, self.towers, strict=True):
            mixed = (torch.softmax(gate(x), dim=-1).unsqueeze(-1) * experts).sum(dim=1)
            outputs[task] = tower(mixed).squeeze(-1)
        stages = [task for task in FUNNEL if task in outputs]
        for wide, narrow in pairwise(stages):
            outputs[narrow] = joint_logit(outputs[wide], outputs[narrow])
        return torch.stack([outputs[task] for task in self.config.tasks], dim=1)


def moments(features: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and spread of each column of float32[n, F], float64[F]; CHUNK rows at a time, since numpy's own spread makes
    a second table of that size."""
    chunks = range(0, len(features), CHUNK)
    mean = sum((features[at : at + CHUNK].sum(axis=0, dtype=np.float64) for at in chunks), np.zeros(1)) / len(features)
    squares = ((features[at : at + CHUNK] - mean) ** 2 for at in chunks)
    return mean, np.sqrt(sum((square.sum(axis=0) for square in squares), np.zeros(1)) / len(features))


def joint_logit(given: Tensor, conditional: Tensor) -> Tensor:
    """Logit of p(a) p(b | a) from the logits of p(a) and p(b | a)."""
    log_p = F.logsigmoid(given) + F.logsigmoid(conditional)
    # log(p / (1 - p)); where p has rounded to 1 the floor keeps the logit finite.
    return log_p - torch.log((1.0 - torch.exp(log_p)).clamp_min(1e-7))


class MMOEScorer(nn.Module):
    """What serving runs: (B, F) -> (B, tasks), probabilities but for `spend`, purchase calibrated.

    The calibration moves the purchase alone, so the wider stages give way where it would pass them, and a repurchase
    is never likelier than a purchase; the order of candidates by column 0 is that of the network.
    """

    def __init__(self, model: MMOE, scale: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.scale, self.shift = scale, shift

    def forward(self, features: Tensor) -> Tensor:
        raw = self.model(features)
        tasks = self.model.config.tasks
        columns = {task: raw[:, i] if task == "spend" else torch.sigmoid(raw[:, i]) for i, task in enumerate(tasks)}
        columns["purchase"] = torch.sigmoid(self.scale * raw[:, tasks.index("purchase")] + self.shift)
        stages = [task for task in FUNNEL if task in columns]
        for narrow, wide in pairwise(reversed(stages)):
            columns[wide] = torch.maximum(columns[wide], columns[narrow])
        if "repurchase" in columns:
            columns["repurchase"] = torch.minimum(columns["repurchase"], columns["purchase"])
        return torch.stack([columns[task] for task in tasks], dim=1)


class ExplainedScorer(nn.Module):
    """The same with what its purchase gate says: (B, F) -> scores (B, tasks), gates (B, experts), which sum to 1."""

    def __init__(self, scorer: MMOEScorer) -> None:
        super().__init__()
        self.scorer = scorer

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        model = self.scorer.model
        gate = model.gate_weights(features)[:, model.config.tasks.index("purchase")]
        return self.scorer(features), gate
