"""What commands that become a server hand on to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.servers import model_server
from mlops.service.tls_settings import ServerTls
from mlops.serving.process import argument_parser, settings_of


def test_a_model_server_understands_what_it_is_handed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key, client_ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    for file in (cert, key, client_ca):
        file.touch()
    handed: list[str] = []
    monkeypatch.setattr(os, "execv", lambda _, arguments: handed.extend(arguments))
    files: dict[str, Any] = {"--tls-cert": cert, "--tls-key": key, "--tls-client-ca": client_ca}

    result = CliRunner().invoke(
        model_server,
        ["--model", str(tmp_path), "--port", "0", "--host", "::1"]
        + [str(word) for pair in files.items() for word in pair],
    )

    assert result.exit_code == 0, result.output
    own = handed[handed.index("mlops.serving") + 1 :]
    settings = settings_of(argument_parser("test", "").parse_args(own), {})
    assert (settings.model, settings.host, settings.port) == (tmp_path, "::1", 0)
    assert settings.tls == ServerTls(cert=str(cert), key=str(key), client_ca=str(client_ca))
