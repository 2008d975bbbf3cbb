"""What every training run shares: one seed for everything that draws."""

from __future__ import annotations

import random

import numpy as np
import torch


def seed_everything(seed: int) -> np.random.Generator:
    """Same seed, same machine, same numbers: torch runs deterministic kernels on a fixed number of threads."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Filling every new tensor first is a debugging aid against kernels that read what nobody wrote; it took a quarter
    # of a training step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return np.random.default_rng(seed)
