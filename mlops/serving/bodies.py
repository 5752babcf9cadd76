"""Bodies of the model server: what is asked, within bounds, and what is answered."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

MAX_BODY_BYTES = 1024 * 1024
"""A batch of 256 texts of ordinary length, with room."""

MAX_TEXT_CHARS = 8_192
"""About 2,000 tokens: what the embedding takes in."""

MAX_TOP_K = 20
"""With bodies of 1,500 characters an answer stays near 40 KB."""

MAX_BATCH_TEXTS = 256

MAX_MESSAGES = 256
"""Only the last question is searched for; a conversation longer than this is a mistake."""

MAX_ID_CHARS = 256


Body = TypeVar("Body")

Side = Literal["query", "document"]
"""What a text is to a model that embeds the two in different ways."""


class BadRequest(Exception):
    """The request cannot be answered as it is; the text says what was expected and what came."""

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class QueryRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /query`. Unknown fields are ignored, so that clients may send their own."""

    query_text: str
    user_id: str = ""
    session_id: str = ""
    top_k: int = 5
    include_embedding: bool = False

    def __post_init__(self) -> None:
        _check_text("query_text", self.query_text)
        for name, value in (("user_id", self.user_id), ("session_id", self.session_id)):
            if len(value) > MAX_ID_CHARS:
                raise ValueError(f"{name} has {len(value)} characters, at most {MAX_ID_CHARS}")
        if not 1 <= self.top_k <= MAX_TOP_K:
            raise ValueError(f"top_k is {self.top_k}, expected 1 to {MAX_TOP_K}")


class FoundDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One document of an answer."""

    id: str
    title: str
    score: float
    """Cosine of the query's and the document's vectors."""
    text: str


class QueryResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answer to `POST /query`."""

    query_id: str
    answer: str
    documents: list[FoundDocument]
    relevance_score: float
    """Similarity of the best document, 0..1. Of this version's space alone."""
    model: str
    version: str
    response_time_ms: float
    embedding: list[float] | None = None
    """The query's unit vector, where it was asked for."""


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/embeddings`."""

    model: str
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    input_type: Side = "document"
    """Which side of the model; by default the one whose vectors lie in an index."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.texts) <= MAX_BATCH_TEXTS:
            raise ValueError(f"input has {len(self.texts)} texts, expected 1 to {MAX_BATCH_TEXTS}")
        for number, text in enumerate(self.texts):
            _check_text(f"input[{number}]" if isinstance(self.input, list) else "input", text)

    @property
    def texts(self) -> list[str]:
        """`input` as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


class ContentPart(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a message; only texts are understood."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        """All of its parts, a line each; empty where it has none."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream carries beside its text."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`POST /v1/chat/completions`. Sampling parameters are accepted and have no effect here."""

    model: str
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.messages) <= MAX_MESSAGES:
            raise ValueError(
                f"messages has {len(self.messages)} entries, expected 1 to {MAX_MESSAGES}"
            )
        _check_text("the last user message", self.question)
        if self.n is not None and self.n != 1:
            raise ValueError(f"n is {self.n}, expected 1: answers here are not drawn at random")
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream: true")
        if self.token_limit is not None and self.token_limit < 1:
            raise ValueError(f"the limit of tokens is {self.token_limit}, expected 1 or more")

    @property
    def question(self) -> str:
        """The last thing that the user said; empty where the user said nothing."""
        said = (message.text for message in reversed(self.messages) if message.role == "user")
        return next(said, "")

    @property
    def token_limit(self) -> int | None:
        """Of the answer, by either of its names; None: as long as it is."""
        limit = self.max_completion_tokens
        return self.max_tokens if limit is None else limit

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of MLflow's scoring protocol."""

    status: int
    body: str
    content_type: str


def decode(content: bytes, body_type: type[Body]) -> Body:
    """Read a JSON body.

    Raises:
        BadRequest: it is not JSON, or not such a body; names the field.
    """
    try:
        return msgspec.json.decode(content, type=body_type)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from error


def _check_text(name: str, text: str) -> None:
    if not text.strip():
        raise ValueError(f"{name} is empty; expected text")
    if len(text) > MAX_TEXT_CHARS:
        raise ValueError(f"{name} has {len(text)} characters, at most {MAX_TEXT_CHARS}")
