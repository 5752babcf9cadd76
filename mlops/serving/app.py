"""The model server: retrieval with extractive answers, embeddings and chat in OpenAI's shape."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from time import perf_counter
from typing import Final
from uuid import uuid4

import msgspec
from aiohttp import web

from mlops.contracts.serving import LoadRequest
from mlops.service.http import Forbidden, check_open
from mlops.service.tokens import Role, Tokens
from mlops.serving.answers import answer_text
from mlops.serving.batching import Batcher, BatchSettings
from mlops.serving.bodies import (
    MAX_BODY_BYTES,
    BadRequest,
    Body,
    ChatRequest,
    EmbeddingsRequest,
    FoundDocument,
    QueryRequest,
    QueryResponse,
    decode,
)
from mlops.serving.metrics import Metrics
from mlops.serving.model import BadModel, Model
from mlops.serving.openai import (
    Completion,
    completion_of,
    embeddings_response,
    error_body,
    models_response,
    space_response,
)
from mlops.serving.versions import Scores, Servable, Versions

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_MAY_PASS: Final = frozenset({"store_unavailable"})
"""Failures to load after which the same may go well."""

SCORE_DIGITS = 6
"""What single precision holds; more digits are noise on the wire."""


class ModelServer:
    """The handlers. Until a version is loaded everything answers 503."""

    def __init__(
        self,
        versions: Versions,
        *,
        admin_token: str = "",
        batches: BatchSettings | None = None,
    ) -> None:
        """`admin_token` is needed to load versions; without one only this machine may."""
        self._versions = versions
        self._tokens = Tokens(operator=admin_token, viewer=None)
        self._metrics = Metrics()
        self._batcher = Batcher(batches, self._metrics.batched)
        self._metrics.waiting_texts.set_function(lambda: self._batcher.waiting_texts)
        versions.observe = self._metrics.load_ended

    def application(self) -> web.Application:
        """An application of its own around these handlers."""
        app = web.Application(
            client_max_size=MAX_BODY_BYTES, middlewares=[self._measured, _refusals_as_json]
        )
        app.router.add_get("/healthz", self.healthz)
        for path in ("/ping", "/health"):  # MLflow's own names
            app.router.add_get(path, self.healthz)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/v1/embedding-space", self.embedding_space)
        app.router.add_get("/admin/models", self.loaded)
        app.router.add_post("/admin/models", self.load)
        app.router.add_post("/query", self.query)
        app.router.add_post("/v1/embeddings", self.embeddings)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/invocations", self.invocations)
        return app

    async def healthz(self, request: web.Request) -> web.Response:
        """Which version serves; 503 before one does."""
        model = self._loaded()
        return _json({"status": "ok", "model": model.name, "version": model.version})

    async def metrics(self, request: web.Request) -> web.Response:
        """In Prometheus' format."""
        if (model := self._versions.serving) is not None:
            self._metrics.serves(model.name, model.version, len(self._versions.loaded))
        return web.Response(body=self._metrics.text(), headers={"Content-Type": METRICS_TYPE})

    async def models(self, request: web.Request) -> web.Response:
        """What is served, in OpenAI's shape."""
        return _json(models_response(self._loaded()))

    async def embedding_space(self, request: web.Request) -> web.Response:
        """What queries are embedded with and what the index was made with, to compare them."""
        return _json(space_response(self._retriever("an index")))

    async def loaded(self, request: web.Request) -> web.Response:
        """What serves, under the name that loads it again, and the versions in memory."""
        self._check_admin(request)
        serving = self._loaded()
        return _json(
            {
                "model": self._versions.serving_as,
                "version": serving.version,
                "loaded": self._versions.loaded,
            }
        )

    async def load(self, request: web.Request) -> web.Response:
        """Serve another version; answers once new requests get it. A load that has begun goes on
        where its client goes away: the next one waits for it, so the last one asked for serves."""
        self._check_admin(request)
        body = await _body(request, LoadRequest)
        if not body.model:
            self._loaded()  # whose name is meant
        try:
            name = body.model or self._versions.serving_as
            model = await asyncio.shield(self._versions.serve_version(name, body.version))
        except BadModel as error:
            status = 503 if error.code in _MAY_PASS else 409
            raise BadRequest(str(error), status=status, code=error.code) from error
        return _json({"model": model.name, "version": model.version})

    async def query(self, request: web.Request) -> web.Response:
        """The nearest documents, and an answer that quotes the best of them."""
        started_s = perf_counter()
        model = self._retriever("/query")
        body = await _body(request, QueryRequest)
        vector, _ = model.embed(body.query_text)
        hits = model.nearest(vector, body.top_k)
        answer = QueryResponse(
            query_id=uuid4().hex,
            answer=answer_text(hits),
            documents=[
                FoundDocument(
                    id=hit.document.id,
                    title=hit.document.id,
                    score=round(hit.score, SCORE_DIGITS),
                    text=hit.document.text,
                )
                for hit in hits
            ],
            relevance_score=round(min(max(hits[0].score, 0.0), 1.0), SCORE_DIGITS),
            model=model.manifest.name,
            version=model.manifest.version,
            response_time_ms=round((perf_counter() - started_s) * 1e3, 3),
            embedding=vector.tolist() if body.include_embedding else None,
        )
        return _json(answer)

    async def embeddings(self, request: web.Request) -> web.Response:
        """One vector for each text, in OpenAI's shape; texts of several requests share a call."""
        model = self._loaded()
        body = await _body(request, EmbeddingsRequest)
        _check_model(model, body.model)
        if body.dimensions is not None and body.dimensions != model.dimension:
            raise BadRequest(f"dimensions is {body.dimensions}; this model has {model.dimension}")
        embedded = await self._batcher.embed(model, body.texts, body.input_type)
        vectors = [vector for vector, _ in embedded]
        tokens = sum(count for _, count in embedded)
        return _json(embeddings_response(model.snapshot, vectors, body.encoding_format, tokens))

    async def invocations(self, request: web.Request) -> web.Response:
        """MLflow's scoring protocol, read and answered by MLflow itself."""
        model = self._loaded()
        if not isinstance(model, Scores):
            raise BadRequest(
                f"{model.snapshot} is no MLflow model; it answers /query and /v1/embeddings",
                status=404,
                code="not_supported",
            )
        scored = await asyncio.to_thread(
            model.score, await request.read(), request.headers.get("Content-Type", "")
        )
        return web.Response(
            text=scored.body, status=scored.status, content_type=scored.content_type
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """An answer to the last question, whole or as server-sent events, in OpenAI's shape."""
        model = self._retriever("/v1/chat/completions")
        body = await _body(request, ChatRequest)
        _check_model(model, body.model)
        completion = completion_of(model, body, completion_id=f"chatcmpl-{uuid4().hex}")
        if not body.stream:
            return _json(completion.whole())
        return await _stream(request, completion, include_usage=body.include_usage)

    def _loaded(self) -> Servable:
        if self._versions.serving is None:
            raise BadRequest("the model is still loading", status=503, code="loading")
        return self._versions.serving

    def _retriever(self, what: str) -> Model:
        model = self._loaded()
        if not isinstance(model, Model):
            raise BadRequest(
                f"{model.snapshot} has no {what}; it answers /invocations and /v1/embeddings",
                status=404,
                code="not_supported",
            )
        return model

    @web.middleware
    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count and time every request, by the pattern of its route."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else ""
        started_s, status = perf_counter(), 499  # the client went away, unless it is answered
        self._metrics.in_flight.inc()
        try:
            response = await handler(request)
            status = response.status
            return response
        except Exception:
            status = 500
            raise
        finally:
            self._metrics.in_flight.dec()
            served = self._versions.serving
            self._metrics.answered(
                request.method,
                route,
                status,
                served.name if served else "",
                perf_counter() - started_s,
            )

    def _check_admin(self, request: web.Request) -> None:
        if self._tokens.is_open:
            try:
                check_open(request, changes=request.method != "GET")
            except Forbidden as error:
                raise BadRequest(str(error), status=403, code="forbidden") from error
            if not _is_local(request):
                raise BadRequest(
                    "without MODEL_SERVER_TOKEN versions are loaded from this machine only",
                    status=403,
                    code="forbidden",
                )
        elif self._tokens.grant_of(request.headers.get("Authorization", "")).role < Role.OPERATOR:
            raise BadRequest("the admin token is missing or wrong", status=401, code="unauthorized")


def _is_local(request: web.Request) -> bool:
    try:
        return ip_address(request.remote or "").is_loopback
    except ValueError:
        return False


def _check_model(model: Servable, asked: str) -> None:
    if asked not in {model.name, model.snapshot}:
        raise BadRequest(
            f"model {asked!r} is not served here; expected {model.name!r} or {model.snapshot!r}",
            status=404,
            code="model_not_found",
        )


async def _body(request: web.Request, body_type: type[Body]) -> Body:
    return decode(await request.read(), body_type)


async def _stream(
    request: web.Request, completion: Completion, *, include_usage: bool
) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
    )
    await response.prepare(request)
    try:
        for event in completion.events(include_usage=include_usage):
            await response.write(event)
        await response.write_eof()
    except ConnectionError:
        pass  # the client went away; there is nobody to tell
    return response


@web.middleware
async def _refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal has a JSON body, in OpenAI's shape under /v1/."""
    try:
        return await handler(request)
    except BadRequest as refusal:
        status, message, code = refusal.status, str(refusal), refusal.code
    except web.HTTPRequestEntityTooLarge:
        status, code = 413, "too_large"
        message = f"the body has more than {MAX_BODY_BYTES} bytes"
    except web.HTTPNotFound:
        status, code = 404, "not_found"
        message = f"nothing is served at {request.path}"
    except web.HTTPMethodNotAllowed as refusal:
        status, code = 405, "method_not_allowed"
        allowed = ", ".join(sorted(refusal.allowed_methods))
        message = f"{request.method} {request.path} is not allowed; expected {allowed}"
    if request.path.startswith("/v1/"):
        return _json(error_body(message, code=code, status=status), status=status)
    return _json({"error": message, "code": code}, status=status)


def _json(content: object, *, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(content), status=status, content_type="application/json"
    )
