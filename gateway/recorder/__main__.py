"""`python -m gateway.recorder --config FILE`: carry a gateway's spool into ClickHouse."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop
from prometheus_client import start_http_server

from gateway import config
from gateway.recorder.app import Recorder, SpoolTaken
from gateway.recorder.completeness import CompletenessGauge
from gateway.recorder.connecting import ConnectingLog
from gateway.recorder.memory import collect_seldom
from gateway.recorder.rules_file import RulesFile
from gateway.recorder.settings import RecorderSettings
from mlops.feature_store.data_frames import leave_out_data_frames
from mlops.feature_store.settings import ClickHouseSettings
from mlops.service.aio import spawn

if TYPE_CHECKING:
    from gateway.recorder.spans import Spans

log = logging.getLogger(__name__)

COLLECTORS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""OpenTelemetry's own variables; either one asks for spans."""


def main() -> int:
    """Exit code 0 after a signal, 2 where it cannot start; stderr says why."""
    parser = argparse.ArgumentParser(prog="python -m gateway.recorder", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the gateway's file")
    parser.add_argument("--metrics-port", type=int, help="serve Prometheus text here; 0: any port")
    parser.add_argument("--metrics-host", default="127.0.0.1", help="on this address")
    parser.add_argument(
        "--drain",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="on SIGTERM: longest time to read on, until the gateway has ended",
    )
    arguments = parser.parse_args()
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    leave_out_data_frames("numpy")
    environ = os.environ  # noqa: TID251  this is the composition root
    try:
        settings = _settings(arguments.config)
        rules = RulesFile(arguments.config, environ)
        clickhouse = ClickHouseSettings.parse(environ)
        return uvloop.run(_serve(settings, rules, clickhouse, environ, arguments))
    except (ValueError, OSError, SpoolTaken) as exc:
        sys.stderr.write(f"recorder: {exc}\n")
        return 2


def _settings(path: Path) -> RecorderSettings:
    """Of the gateway's file without its tokens and certificates, which a recorder need not have."""
    spool = config.load(path, None).spool
    if spool is None:
        raise ValueError(f"{path}: has no `spool`, so the gateway records nothing to carry")
    return RecorderSettings(spool_dir=spool.dir)


async def _serve(
    settings: RecorderSettings,
    rules: RulesFile,
    clickhouse: ClickHouseSettings,
    environ: Mapping[str, str],
    arguments: argparse.Namespace,
) -> int:
    sink = ConnectingLog(clickhouse)
    recorder = Recorder(
        settings,
        sink,
        jitter=secrets.SystemRandom().random,
        clock_s=time.monotonic,
        rules=rules.rules,
    )
    rules.on_bad_file = recorder.metrics.bad_files.inc
    spans = open_spans(environ, recorder)
    recorder.open()
    collect_seldom()
    _on_signals(lambda: recorder.drain(arguments.drain))
    what, watch = f"reading {settings.spool_dir}", None
    if arguments.metrics_port is not None:
        server, _ = start_http_server(
            arguments.metrics_port,
            addr=arguments.metrics_host,
            registry=recorder.metrics.registry,
        )
        what = f"http://{arguments.metrics_host}:{server.server_port}"
        gauge = CompletenessGauge(sink.read_completeness, recorder.metrics.registry)
        watch = spawn(gauge.run(), name="completeness of the log")
    print(f"ready {what}", flush=True)  # noqa: T201  whoever started us waits for this line
    try:
        await recorder.run()
    finally:
        if watch is not None:
            watch.cancel()
        await sink.close()
        if spans is not None:
            await asyncio.to_thread(spans.close)
    return 0


def open_spans(environ: Mapping[str, str], recorder: Recorder) -> Spans | None:
    """Where the environment names a collector: its spans. OpenTelemetry is imported only then."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(
        environ.get(name) for name in COLLECTORS
    ):
        return None
    try:
        from gateway.recorder.spans import Spans  # noqa: PLC0415
    except ImportError as exc:
        # Rows matter more: a variable that the platform sets everywhere must not stop them.
        log.warning(
            "no spans: %s names a collector, but the extra `otel` is missing: %s",
            " or ".join(COLLECTORS),
            exc,
        )
        return None
    spans = Spans(environ, recorder.metrics)
    recorder.tell(
        lambda entries: spans.made(
            (entry.row, entry.call)
            for entry in entries
            if entry.row is not None and entry.call is not None
        )
    )
    return spans


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


if __name__ == "__main__":
    sys.exit(main())
