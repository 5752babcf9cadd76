"""Contexts that follow their files, and clients that say which file is wrong."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from mlops.service.tls import LOOK_S, KeptContext, Trust, UnusableFiles
from mlops.service.tls_settings import ClientTls, ServerTls


@pytest.fixture
def server(tmp_path: Path) -> ServerTls:
    return issued(tmp_path, trustme.CA())


def issued(directory: Path, authority: trustme.CA) -> ServerTls:
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(str(directory / "cert.pem"))
    issued.private_key_pem.write_to_path(str(directory / "key.pem"))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    return ServerTls(cert=str(directory / "cert.pem"), key=str(directory / "key.pem"))


def test_files_that_changed_are_read_again_at_the_next_look_only(
    tmp_path: Path, server: ServerTls
) -> None:
    now_s = 100.0
    kept = KeptContext("tls", server, lambda: now_s)
    first = kept.fresh()
    issued(tmp_path, trustme.CA())
    assert kept.fresh() is first
    now_s += LOOK_S
    second = kept.fresh()
    assert second is not first
    now_s += LOOK_S
    assert kept.fresh() is second, "nothing changed since"


def test_files_that_cannot_be_used_leave_what_was_before(
    tmp_path: Path, server: ServerTls, caplog: pytest.LogCaptureFixture
) -> None:
    kept = KeptContext("admin.tls", server)
    before = kept.context
    (tmp_path / "key.pem").write_text("no key")
    kept.refresh()
    kept.refresh()
    assert kept.context is before
    assert caplog.text.count("admin.tls: ") == 1


def test_a_client_that_is_told_nothing_believes_the_systems_authorities() -> None:
    assert Trust(ClientTls()).context() is True
    named = Trust(ClientTls(server_name="models.internal"))
    assert (named.context(), named.server_name) == (True, "models.internal")


def test_a_client_reads_its_files_when_it_needs_them(tmp_path: Path, server: ServerTls) -> None:
    trust = Trust(ClientTls(ca=str(tmp_path / "none.pem")))
    with pytest.raises(UnusableFiles, match=r"none\.pem: cannot be read"):
        trust.context()
    (tmp_path / "ca.pem").rename(tmp_path / "none.pem")
    context = trust.context()
    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cert": "a.pem"}, "cert and key together"),
        ({"ca": "a.pem", "verify": False}, "of no use"),
        ({"ca": ""}, "ca: expected the path of a file"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        ClientTls(**given)  # type: ignore[arg-type]
