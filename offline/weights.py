"""Checkpoints of a run: network weights and example tables as .npz, written aside and renamed, read with pickle off."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from offline.examples import Examples


def save_weights(module: torch.nn.Module, path: Path) -> None:
    _write(path, {name: tensor.numpy() for name, tensor in module.state_dict().items()})


def load_weights(module: torch.nn.Module, path: Path) -> bool:
    """Fill the module from a checkpoint; False (and nothing changed) where there is none that is whole."""
    stored = read_arrays(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if stored is None or {name: array.shape for name, array in stored.items()} != wanted:
        return False
    module.load_state_dict({name: torch.from_numpy(array) for name, array in stored.items()})
    return True


def save_examples(examples: Examples, path: Path) -> None:
    _write(
        path,
        {
            "features": examples.features,
            "labels": examples.labels,
            "group": examples.group,
            "cut": examples.cut,
            "tasks": np.array(examples.tasks),
        },
    )


def load_examples(path: Path) -> Examples | None:
    stored = read_arrays(path)
    if stored is None or stored.keys() != {"features", "labels", "group", "cut", "tasks"}:
        return None
    tasks = tuple(stored.pop("tasks").tolist())
    return Examples(**stored, tasks=tasks)


def _write(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".part.npz")
    np.savez(aside, allow_pickle=False, **arrays)
    aside.replace(path)


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]] | None:
    """What is in a checkpoint; None where there is none that is whole."""
    if not path.exists():
        return None
    try:
        # numpy leaves a file that it opened itself open when it is cut short.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile):
        return None  # a file cut short by a full disk: the stage runs again
