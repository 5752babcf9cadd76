"""Run the model server as a process: listen, load, say `ready`, end on SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import uvloop
from aiohttp import web

from mlops.service.tls import ServerContext, UnusableFiles
from mlops.service.tls_settings import ServerTls
from mlops.serving.app import ModelServer
from mlops.serving.batching import BatchSettings
from mlops.serving.fetching import fetching, load_version
from mlops.serving.memory import Memory
from mlops.serving.model import BadModel
from mlops.serving.versions import Versions

log = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT_S = 3.0
"""What open requests get to finish; one takes about a millisecond."""

Wrap = Callable[[web.Application], web.Application]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Where to listen and what to serve."""

    model: Path
    host: str
    port: int
    corpus_cache: Path
    registered: Path
    """Registered versions are fetched to below it."""
    batches: BatchSettings
    tls: ServerTls | None = None
    """None: plain HTTP."""
    admin_token: str = field(default="", repr=False)


def argument_parser(program: str, description: str) -> argparse.ArgumentParser:
    """The arguments of every process that serves a model."""
    parser = argparse.ArgumentParser(prog=program, description=description, allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True, help="directory of one version")
    parser.add_argument("--port", type=int, required=True, help="0: any free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument(
        "--corpus-cache", type=Path, help="built documents are kept here; default: beside MODEL"
    )
    parser.add_argument(
        "--registered",
        type=Path,
        help="registered versions are fetched here; default: beside MODEL",
    )
    default = BatchSettings()
    parser.add_argument(
        "--batch-texts",
        type=int,
        default=default.max_texts,
        help="most texts in one call of the model; 1: one by one",
    )
    parser.add_argument(
        "--batch-delay-ms",
        type=float,
        default=default.max_delay_s * 1e3,
        help="longest wait of a request for company, while there is some",
    )
    parser.add_argument("--tls-cert", help="PEM file of its certificate; default: plain HTTP")
    parser.add_argument("--tls-key", help="PEM file of the key that belongs to it")
    parser.add_argument(
        "--tls-client-ca", help="PEM file of who must have signed a client's certificate"
    )
    return parser


def settings_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> ServerSettings:
    """The parsed arguments; the token that loading versions needs is MODEL_SERVER_TOKEN.

    Raises:
        ValueError: a bound of the batches is none, or a certificate comes without its key.
    """
    model: Path = arguments.model.absolute()
    return ServerSettings(
        model=model,
        host=arguments.host,
        port=arguments.port,
        corpus_cache=arguments.corpus_cache or model.parent,
        registered=arguments.registered or model.parent / "registered",
        batches=BatchSettings(
            max_texts=arguments.batch_texts, max_delay_s=arguments.batch_delay_ms / 1e3
        ),
        tls=_tls_of(arguments),
        admin_token=environ.get("MODEL_SERVER_TOKEN", ""),
    )


def _tls_of(arguments: argparse.Namespace) -> ServerTls | None:
    cert, key, client_ca = arguments.tls_cert, arguments.tls_key, arguments.tls_client_ca
    if cert is None and key is None and client_ca is None:
        return None
    if cert is None or key is None:
        raise ValueError("expected --tls-cert and --tls-key together, or neither")
    return ServerTls(cert=cert, key=key, client_ca=client_ca)


def run(settings: ServerSettings, wrap: Wrap) -> int:
    """Serve until SIGTERM or SIGINT; returns the exit code. `wrap` goes around the application."""
    # The embedding library configures logging when it is imported, unless somebody has before it.
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        uvloop.run(_serve(settings, wrap))
    except (BadModel, UnusableFiles, OSError) as error:
        log.error("cannot serve %s: %s", settings.model, error)  # noqa: TRY400  the message is all
        return 1
    return 0


def runner_of(application: web.Application) -> web.AppRunner:
    """As it is served here: what nobody waits for any more is not computed."""
    return web.AppRunner(
        application,
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
    )


async def _serve(settings: ServerSettings, wrap: Wrap) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    context = None if settings.tls is None else ServerContext(settings.tls).front
    versions = Versions(
        partial(load_version, corpus_cache=settings.corpus_cache), fetching(settings.registered)
    )
    server = ModelServer(versions, admin_token=settings.admin_token, batches=settings.batches)
    runner = runner_of(wrap(server.application()))
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        await _serve_first(versions, settings, Memory(settings.registered, port, settings.model))
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        scheme = "http" if context is None else "https"
        sys.stdout.write(f"ready {scheme}://{host}:{port}\n")
        sys.stdout.flush()
        await stop.wait()
    finally:
        await runner.cleanup()


async def _serve_first(versions: Versions, settings: ServerSettings, memory: Memory) -> None:
    """What was served last at this port, else what the command line says; from then on every
    version that is loaded is remembered."""
    last = memory.recall() if settings.port else None  # any free port is nobody's address
    if last is None:
        first = await versions.serve_directory(settings.model)
        own = (first.name, first.version)
    else:
        log.info("goes on with %s %s (%s)", last.model, last.version, memory.path)
        try:
            await versions.serve_version(last.model, last.version)
        except BadModel as error:
            raise BadModel(
                f"{error}; it was served last: remove {memory.path} to serve --model"
            ) from error
        own = None

    def serves(model: str, version: str) -> None:
        try:
            if (model, version) == own:
                memory.forget()
            else:
                memory.note(model, version)
        except OSError as error:
            raise BadModel(
                f"a restart would not serve {model} {version} again: {memory.path}: {error}"
            ) from error

    versions.serves = serves
