"""The fields that any profile looks at. What is not named here is skipped without being built.

Each is whatever JSON value came: a field of the wrong kind is a problem of that field alone.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

Json: TypeAlias = object


class Asked(msgspec.Struct, gc=False):
    """A request's body."""

    # native
    query_id: Json = None
    query_text: Json = None
    embedding: Json = None
    relevance_score: Json = None
    user_id: Json = None
    session_id: Json = None
    # OpenAI
    messages: Json = None
    prompt: Json = None
    input: Json = None
    user: Json = None
    metadata: Json = None
    # KServe: its id and inputs. TEI: inputs, or a query with texts.
    id: Json = None
    inputs: Json = None
    query: Json = None
    texts: Json = None


class Answered(msgspec.Struct, gc=False):
    """An answer's body, or one event of its stream."""

    # native
    query_id: Json = None
    embedding: Json = None
    relevance_score: Json = None
    user_id: Json = None
    session_id: Json = None
    response_time_ms: Json = None
    documents: Json = None
    answer: Json = None
    refused: Json = None
    # OpenAI: `kind` is `chat.completion`, `response`, `list`, ...; `event` is of a stream
    id: Json = None
    kind: Json = msgspec.field(default=None, name="object")
    model: Json = None
    choices: Json = None
    usage: Json = None
    data: Json = None
    output: Json = None
    status: Json = None
    incomplete_details: Json = None
    event: Json = msgspec.field(default=None, name="type")
    response: Json = None
    # KServe
    model_name: Json = None
    model_version: Json = None
    outputs: Json = None


NO_ANSWER = Answered()
NOTHING_ASKED = Asked()
