"""What the gateway's file may say about watching it."""

from __future__ import annotations

from random import Random

import pytest

from gateway.config import parse
from gateway.observing import Observing
from gateway.settings import AccessLogSettings, ObserveSettings

ROUTE = """
routes:
  - name: rag
    match: {prefix: /}
    stable: {version: "1", endpoints: ["http://127.0.0.1:8011"]}
"""


def observe(text: str) -> ObserveSettings:
    return parse(f"observe: {{{text}}}\n{ROUTE}", {}).observe


def test_nothing_is_watched_by_default():
    assert parse(ROUTE, {}).observe == ObserveSettings()
    assert observe("trace: pass") == ObserveSettings()


def test_everything_can_be_asked_for():
    text = (
        "trace: make, trace_sample: 5%, server_timing: true, served_by: false, "
        "access_log: {path: var/access.log, sample: 1%}"
    )
    assert observe(text) == ObserveSettings(
        makes_traces=True,
        trace_sample_percent=5.0,
        server_timing=True,
        served_by=False,
        access_log=AccessLogSettings(path="var/access.log", sample_percent=1.0),
    )


def test_who_only_hides_the_version_pays_nothing_for_it():
    assert observe("served_by: false") == ObserveSettings(served_by=False)
    assert Observing.open(ObserveSettings(served_by=False), Random(1)) is None


def test_an_access_log_has_every_exchange_unless_told_otherwise():
    assert observe("access_log: {path: '-'}").access_log == AccessLogSettings(path="-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trace: mkae", "observe.trace: expected pass or make, got 'mkae'"),
        ("trace_sample: 5%", "observe.trace_sample: .* expected trace: make beside it"),
        ("access_log: {}", "observe.access_log: the key 'path' is missing"),
        ("access_log: {path: ''}", "observe.access_log.path: expected a file, or -"),
        ("acces_log: {path: a}", "observe: unknown key 'acces_log'; did you mean 'access_log'"),
        ("access_log: {path: a, sample: 101%}", "observe.access_log.sample: "),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(ValueError, match=message):
        observe(text)
