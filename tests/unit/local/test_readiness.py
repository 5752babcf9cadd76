"""When a part of the stack is ready, and when it is not yet."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler

import pytest

from mlops.local.child import Child, _answers, free_ports
from mlops.local.processes import ready_urls
from mlops.local.s3 import _has_buckets
from tests.answering import answering


@pytest.mark.parametrize(
    ("said", "urls"),
    [
        ("", None),
        ("loading\n", None),
        ("already http://127.0.0.1:8000\n", None),
        ("ready http://127.0.0.1:80", None),  # and more digits may follow
        ("ready http://127.0.0.1:8000\n", ("http://127.0.0.1:8000",)),
        ("warm\nready http://[::1]:1 admin http://[::1]:2\n", ("http://[::1]:1", "http://[::1]:2")),
        ("ready\n", ()),
    ],
)
def test_a_process_is_ready_once_the_whole_line_is_there(
    said: str, urls: tuple[str, ...] | None
) -> None:
    assert ready_urls(said) == urls


@pytest.mark.parametrize("answer", [b"", b"HTTP/9 nonsense\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\n"])
def test_a_server_that_answers_badly_is_not_ready_and_is_asked_again(answer: bytes) -> None:
    def bad(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(answer)
        request.close_connection = True

    with answering(bad) as address:
        child = Child(arguments=[], environment={}, url=f"http://{address}", health_path="/")
        assert not _answers(child)
        assert not _has_buckets(int(address.rpartition(":")[2]), "key", "secret", ["models"])


def test_a_server_that_is_not_there_has_no_buckets() -> None:
    (port,) = free_ports(1)
    assert not _has_buckets(port, "key", "secret", ["models"])
