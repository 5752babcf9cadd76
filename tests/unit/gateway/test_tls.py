"""Files of certificates and keys: every mistake is named with the key of the gateway's file."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.config import ConfigError, load

SHORT = """
{listener}
routes:
  - name: rag
    match: {{prefix: /}}
    stable: {{version: "1", endpoints: ["https://127.0.0.1:8011"]}}
    {upstream}
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    directory = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    for name in ("one", "two"):
        issued = authority.issue_cert("localhost")
        issued.cert_chain_pems[0].write_to_path(str(directory / f"{name}.pem"))
        issued.private_key_pem.write_to_path(str(directory / f"{name}.key"))
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    key = load_pem_private_key((directory / "one.key").read_bytes(), None)
    (directory / "encrypted.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"passphrase"))
    )
    (directory / "garbage.pem").write_text("no certificate")
    return directory


def loaded(directory: Path, listener: str = "", upstream: str = ""):
    path = directory / "gateway.yaml"
    text = SHORT.format(listener=listener, upstream=upstream)
    path.write_text(text.replace("DIR", str(directory)))
    return load(path, {})


def test_files_that_belong_together_are_taken(files: Path) -> None:
    settings = loaded(
        files,
        "tls: {cert: DIR/one.pem, key: DIR/one.key, client_ca: DIR/ca.pem}",
        "tls: {ca: DIR/ca.pem, cert: DIR/two.pem, key: DIR/two.key, server_name: models.internal}",
    )
    assert settings.tls is not None
    assert settings.tls.client_ca == f"{files}/ca.pem"
    tls = settings.routes[0].upstream.tls
    assert (tls.server_name, tls.verify) == ("models.internal", True)


@pytest.mark.parametrize(
    ("listener", "upstream", "expected"),
    [
        ("tls: {cert: DIR/none.pem, key: DIR/one.key}", "", r"tls: .*none.pem: cannot be read"),
        ("tls: {cert: DIR/one.pem, key: DIR/two.key}", "", r"tls: .*the key that belongs to it"),
        ("tls: {cert: DIR/garbage.pem, key: DIR/one.key}", "", "expected a PEM certificate"),
        ("tls: {cert: DIR/one.pem, key: DIR/encrypted.key}", "", "without a passphrase"),
        (
            "tls: {cert: DIR/one.pem, key: DIR/one.key, client_ca: DIR/garbage.pem}", "",
            "garbage.pem: expected PEM certificates",
        ),
        ("tls: {cert: DIR/one.pem}", "", "tls: the key 'key' is missing"),
        ("tls: {cert: '', key: DIR/one.key}", "", "tls: cert: expected the path of a file"),
        (
            "admin: {tls: {cert: DIR/one.pem, key: DIR/two.key}}", "",
            r"admin.tls: .*the key that belongs to it",
        ),
        ("admin: {tls: {crt: DIR/one.pem}}", "", "did you mean 'cert'"),
        ("", "tls: {ca: DIR/none.pem}", r"routes\[0\].tls: .*none.pem: cannot be read"),
        ("", "tls: {cert: DIR/one.pem}", r"routes\[0\].tls: expected cert and key together"),
        ("", "tls: {ca: DIR/ca.pem, verify: false}", r"tls.ca: of no use with verify: false"),
        ("", "tls: {server_name: 'a b'}", "tls.server_name: expected the name of a host"),
        ("", "tls: {verfy: false}", "did you mean 'verify'"),
    ],
)  # fmt: skip
def test_a_mistake_is_named(files: Path, listener: str, upstream: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        loaded(files, listener, upstream)
