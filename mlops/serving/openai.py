"""OpenAI's shapes: embeddings, chat completions whole and streamed, models, errors."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import time  # noqa: TID251  `created` is wall time: a record is stamped
from typing import Any

import msgspec

from mlops.serving.answers import QUOTED_PASSAGES, answer_text, pieces_of
from mlops.serving.bodies import ChatRequest
from mlops.serving.embedder import Vectors
from mlops.serving.model import Model
from mlops.serving.versions import Servable

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One chat answer, whole or as the events of a stream."""

    id: str
    model: str
    created: int
    pieces: tuple[str, ...]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    def whole(self) -> Json:
        """The body of an answer that is not streamed."""
        message = {"role": "assistant", "content": "".join(self.pieces)}
        return {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "finish_reason": self.finish_reason}],
            "usage": self.usage,
        }

    def events(self, *, include_usage: bool) -> Iterator[bytes]:
        """The server-sent events of a stream, ended by `[DONE]`."""
        tail: Json = {"usage": None} if include_usage else {}
        yield self._chunk({"role": "assistant", "content": ""}, None, tail)
        for piece in self.pieces:
            yield self._chunk({"content": piece}, None, tail)
        yield self._chunk({}, self.finish_reason, tail)
        if include_usage:
            yield _event({**self._head(_CHUNK), "choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    @property
    def usage(self) -> Json:
        """Tokens of the question, of the answer, and of both."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }

    def _chunk(self, delta: Json, finish_reason: str | None, tail: Json) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return _event({**self._head(_CHUNK), "choices": [choice], **tail})

    def _head(self, kind: str) -> Json:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


_CHUNK = "chat.completion.chunk"


def completion_of(model: Model, body: ChatRequest, *, completion_id: str) -> Completion:
    """Answer the last question of a conversation by quoting the best passages."""
    vector, _ = model.embed(body.question)
    text = answer_text(model.nearest(vector, QUOTED_PASSAGES))
    pieces, tokens, cut = _within(model, text, body.token_limit)
    return Completion(
        id=completion_id,
        model=model.snapshot,
        created=int(time()),
        pieces=pieces,
        finish_reason="length" if cut else "stop",
        prompt_tokens=sum(model.count_tokens(message.text) for message in body.messages),
        completion_tokens=tokens,
    )


def embeddings_response(
    model: str, vectors: Sequence[Vectors], encoding: str, prompt_tokens: int
) -> Json:
    """The body of `/v1/embeddings`; base64 is of little-endian single precision."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": (
                b64encode(vector.astype("<f4").tobytes()).decode()
                if encoding == "base64"
                else vector.tolist()
            ),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def models_response(model: Servable) -> Json:
    """The body of `/v1/models`: the name that moves with releases, and this very version."""
    names = (model.name, model.snapshot)
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in names]
    return {"object": "list", "data": data}


def space_response(model: Model) -> Json:
    """The body of `/v1/embedding-space`: what the encoder is, and what the index was made with."""
    manifest = model.manifest
    encoder = manifest.embedding_model
    if manifest.adapter is not None:
        encoder = f"{encoder}+{model.snapshot}"
    canaries = [{"text": text, "vector": vector.tolist()} for text, vector in model.canaries()]
    space: Json = {"model": encoder, "dimension": manifest.dimension}
    index = {"name": manifest.corpus_digest, **space, "canaries": canaries}
    return {"id": model.snapshot, **space, "index": index}


def error_body(message: str, *, code: str, status: int) -> Json:
    """The body of a refusal."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _within(model: Model, text: str, limit: int | None) -> tuple[tuple[str, ...], int, bool]:
    """As many whole pieces of `text` as fit the limit of tokens, their tokens, and if it was cut.

    The first piece always goes out: an empty answer helps nobody.
    """
    kept: list[str] = []
    total = 0
    for piece in pieces_of(text):
        tokens = model.count_tokens(piece)
        if limit is not None and kept and total + tokens > limit:
            return tuple(kept), total, True
        kept.append(piece)
        total += tokens
    return tuple(kept), total, False


def _event(content: Json) -> bytes:
    return b"data: " + msgspec.json.encode(content) + b"\n\n"
