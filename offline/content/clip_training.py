"""Trains a small CLIP from nothing, with open_clip's own network, tokenizer and loss, on one core in minutes.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision": a photo and its text are
drawn together, and away from the other photos and texts of the batch. A ResNet looks at the photos, since some ten
thousand of them are too few for a vision transformer to find out by itself that neighbouring pixels belong together.

    DIR/training.safetensors           weights, optimizer and epoch: a killed run goes on after its last whole epoch
    DIR/open_clip_config.json          what `clip:DIR` needs (see clip.py), written when all epochs are done
    DIR/open_clip_model.safetensors
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from offline.content.clip import CONFIG, WEIGHTS, clip_library
from offline.content.pairs import Garments, Pairs, garment_caption, read_pixels, shortened
from offline.content.sentences import native_precision
from offline.progress import Step, step
from offline.training import seed_everything

STATE = "training.safetensors"
# Pictures are kept a little larger than the network's, so that every epoch sees another crop.
_MARGIN = 8
_PIECES = 16


@dataclass(frozen=True)
class ClipTraining:
    """side: pixels of the squashed picture · drop: share of a text's pieces left out in training."""

    side: int = 96
    width: int = 32
    layers: tuple[int, ...] = (1, 1, 1, 1)
    embed_dim: int = 128
    text_width: int = 128
    text_layers: int = 2
    context_length: int = 48
    epochs: int = 12
    batch: int = 246
    learning_rate: float = 1e-3
    weight_decay: float = 0.2
    drop: float = 0.3
    seed: int = 7

    @property
    def model(self) -> dict[str, Any]:
        """open_clip's `model_cfg`."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": self.side,
                "layers": list(self.layers),
                "width": self.width,
                "head_width": self.width,
                "patch_size": None,
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": 49408,
                "width": self.text_width,
                "heads": 4,
                "layers": self.text_layers,
            },
        }


def train_clip(pairs: Pairs, garments: Garments | None, directory: Path, config: ClipTraining) -> None:
    """Train on H&M's pairs, with one garment of each class in every batch, and write a checkpoint that `clip:` loads.

    More garments would not help: ten classes have ten captions, and equal captions in one batch count as each
    other's wrong answers.
    """
    library = clip_library()
    seed_everything(config.seed)
    model = library.CLIP(**json.loads(json.dumps(config.model)))
    # Convolutions take half the time on a processor when a pixel's channels lie side by side.
    model.visual.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_groups(model, config), lr=config.learning_rate, betas=(0.9, 0.98), eps=1e-6)
    directory.mkdir(parents=True, exist_ok=True)
    described = _described(config, pairs, garments)
    done = _resume(directory / STATE, model, optimizer, described)
    if done < config.epochs:
        batches = _Batches(pairs, garments, config, library)
        loss = library.loss.ClipLoss()
        with step("small CLIP", (config.epochs - done) * len(batches)) as progress:
            for epoch in range(done, config.epochs):
                _epoch(model, optimizer, loss, batches, epoch, progress)
                _keep(directory / STATE, model, optimizer, described, epoch + 1)
    _publish(model, directory, config)


class _Batches:
    """The pictures in memory, and the batches of every epoch from the seed alone."""

    def __init__(self, pairs: Pairs, garments: Garments | None, config: ClipTraining, library: Any) -> None:
        side = config.side + _MARGIN
        self._config = config
        self._pixels = read_pixels(pairs.files, side, side)
        self._texts = pairs.texts
        self._garments = garments
        self._garment_pixels = read_pixels(garments.files, side, side) if garments else None
        self._tokenize = library.SimpleTokenizer(context_length=config.context_length)
        self._mean = torch.tensor(library.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
        self._std = torch.tensor(library.OPENAI_DATASET_STD).view(1, 3, 1, 1)

    def __len__(self) -> int:
        return max(len(self._texts) // self._config.batch, 1)

    def learning_rate(self, epoch: int, batch: int) -> float:
        """Up over the first epoch, then down along half a cosine to 0 at the end of the last."""
        done = epoch + batch / len(self)
        up = min(done + 1 / len(self), 1)
        return self._config.learning_rate * up * 0.5 * (1 + math.cos(math.pi * done / self._config.epochs))

    def epoch(self, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches (pictures float32[b, 3, side, side], tokens int64[b, context_length])."""
        draw = np.random.default_rng((self._config.seed, number))
        order = draw.permutation(len(self._texts))
        for start in range(0, len(self) * self._config.batch, self._config.batch):
            rows = order[start : start + self._config.batch]
            pixels = self._pixels[rows]
            texts = [shortened(self._texts[row], draw.random(_PIECES), self._config.drop) for row in rows]
            if self._garments is not None and self._garment_pixels is not None:
                labels = self._garments.labels
                chosen = [draw.choice(np.flatnonzero(labels == label)) for label in np.unique(labels)]
                pixels = np.concatenate([pixels, self._garment_pixels[chosen]])
                texts += [garment_caption(self._garments.names[labels[row]]) for row in chosen]
            yield self._pictures(pixels, draw), self._tokenize(texts)

    def _pictures(self, pixels: npt.NDArray[np.uint8], draw: np.random.Generator) -> torch.Tensor:
        side = self._config.side
        out = np.empty((len(pixels), 3, side, side), np.float32)
        for row, (top, left) in enumerate(draw.integers(0, _MARGIN + 1, (len(pixels), 2))):
            crop = pixels[row, :, top : top + side, left : left + side]
            out[row] = crop[:, :, ::-1] if draw.random() < 0.5 else crop
        # Modest: the texts name colours, so a picture's must stay what it is.
        bright, contrast = draw.uniform(0.85, 1.15, (2, len(pixels), 1, 1, 1)).astype(np.float32)
        mean = out.mean(axis=(1, 2, 3), keepdims=True)
        out = np.clip((out - mean) * contrast + mean * bright, 0, 255) / 255
        return (torch.from_numpy(out) - self._mean) / self._std


def _epoch(
    model: Any, optimizer: torch.optim.Optimizer, loss: Any, batches: _Batches, epoch: int, progress: Step
) -> None:
    model.train()
    for number, (pictures, tokens) in enumerate(batches.epoch(epoch)):
        for group in optimizer.param_groups:
            group["lr"] = batches.learning_rate(epoch, number)
        with torch.autocast("cpu", torch.bfloat16, enabled=native_precision() == "bf16"):
            image = model.encode_image(pictures, normalize=True)
            text = model.encode_text(tokens, normalize=True)
        value = loss(image.float(), text.float(), model.logit_scale.exp())
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        progress.advance(1, f"epoch {epoch + 1}, loss {value.item():.2f}")


def _groups(model: Any, config: ClipTraining) -> list[dict[str, Any]]:
    """Weight decay for matrices and filters, none for biases, norms and the temperature."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _resume(path: Path, model: Any, optimizer: torch.optim.Optimizer, described: str) -> int:
    """Epochs done; 0 where there is no whole state of this very configuration and data."""
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
        if told.get("config") != described:
            return 0
        stored = load_file(path)
    except (OSError, SafetensorError):
        return 0
    model.load_state_dict({key[6:]: value for key, value in stored.items() if key.startswith("model.")})
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in stored.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(told["epochs"])


def _keep(path: Path, model: Any, optimizer: torch.optim.Optimizer, described: str, epochs: int) -> None:
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    _save(path, tensors, {"config": described, "epochs": str(epochs)})


def _publish(model: Any, directory: Path, config: ClipTraining) -> None:
    _save(directory / WEIGHTS, dict(model.state_dict()), {"format": "pt"})
    # The pictures were squashed in training, so they must be when the network is used.
    told = {"model_cfg": config.model, "preprocess_cfg": {"resize_mode": "squash", "interpolation": "bicubic"}}
    (directory / CONFIG).write_text(json.dumps(told, indent=2))


def _save(path: Path, tensors: dict[str, torch.Tensor], told: dict[str, str]) -> None:
    aside = path.with_suffix(".part")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, aside, told)
    aside.replace(path)


def _described(config: ClipTraining, pairs: Pairs, garments: Garments | None) -> str:
    """The configuration and a hash of the data, by which a state is known again."""
    digest = hashlib.sha256()
    for content in (*pairs.files, *(text.encode() for text in pairs.texts), *(garments.files if garments else ())):
        digest.update(hashlib.sha256(content).digest())
    return json.dumps({**asdict(config), "data": digest.hexdigest()}, sort_keys=True)
