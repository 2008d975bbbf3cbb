"""Multi-gate mixture of experts (Ma et al., KDD 2018, section 4.2) with normalised Swish experts.

    features -> standardise -> E experts -> one softmax gate a task -> task tower -> logit

LayerNorm and SiLU in the experts answer the collapse that HoME (Kuaishou 2024) reports for plain ReLU experts: over
90% zero activations and experts that serve a single task.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class MMOEConfig:
    n_features: int
    tasks: tuple[str, ...]
    n_experts: int = 4
    hidden: int = 96
    expert_dim: int = 48
    tower_dim: int = 24


class MMOE(nn.Module):
    """(B, F) raw features -> (B, tasks) raw outputs: log1p amount of `spend`, logits of the others."""

    def __init__(self, config: MMOEConfig) -> None:
        super().__init__()
        self.config = config
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(config.n_features))
        self.register_buffer("std", torch.ones(config.n_features))
        self.experts = nn.ModuleList(
            nn.Sequential(
                nn.Linear(config.n_features, config.hidden),
                nn.LayerNorm(config.hidden),
                nn.SiLU(),
                nn.Linear(config.hidden, config.expert_dim),
                nn.LayerNorm(config.expert_dim),
                nn.SiLU(),
            )
            for _ in range(config.n_experts)
        )
        self.gates = nn.ModuleList(nn.Linear(config.n_features, config.n_experts) for _ in range(len(config.tasks)))
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(config.expert_dim, config.tower_dim), nn.SiLU(), nn.Linear(config.tower_dim, 1))
            for _ in range(len(config.tasks))
        )

    def standardise(self, features: Tensor) -> Tensor:
        return ((features - self.mean) / self.std).clamp(-8.0, 8.0)

    def gate_weights(self, features: Tensor) -> Tensor:
        """(B, tasks, experts), each row sums to 1."""
        x = self.standardise(features)
        return torch.stack([torch.softmax(gate(x), dim=-1) for gate in self.gates], dim=1)

    def forward(self, features: Tensor) -> Tensor:
        x = self.standardise(features)
        experts = torch.stack([expert(x) for expert in self.experts], dim=1)
        outputs = []
        for gate, tower in zip(self.gates, self.towers, strict=True):
            mixed = (torch.softmax(gate(x), dim=-1).unsqueeze(-1) * experts).sum(dim=1)
            outputs.append(tower(mixed))
        return torch.cat(outputs, dim=1)


class MMOEScorer(nn.Module):
    """What serving runs: (B, F) -> (B, tasks), probabilities but for `spend`."""

    def __init__(self, model: MMOE) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        raw = self.model(features)
        columns = [
            raw[:, i] if task == "spend" else torch.sigmoid(raw[:, i]) for i, task in enumerate(self.model.config.tasks)
        ]
        return torch.stack(columns, dim=1)
