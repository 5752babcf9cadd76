"""Certificates in files, for tests in which both sides speak TLS."""

from __future__ import annotations

from pathlib import Path

import trustme

from mlops.service.tls_settings import ClientTls


def issue(directory: Path, authority: trustme.CA, name: str, host: str = "127.0.0.1") -> ClientTls:
    """A certificate for `host`, its key, and `ca`, who signed it; replaces those of that name."""
    directory.mkdir(exist_ok=True)
    issued = authority.issue_cert(host)
    paths = {one: directory / f"{name}-{one}.pem" for one in ("ca", "cert", "key")}
    authority.cert_pem.write_to_path(str(paths["ca"]))
    issued.cert_chain_pems[0].write_to_path(str(paths["cert"]))
    issued.private_key_pem.write_to_path(str(paths["key"]))
    return ClientTls(**{one: str(path) for one, path in paths.items()})
