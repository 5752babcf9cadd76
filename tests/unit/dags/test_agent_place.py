"""Where the triggerer looks for the agent."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from dags.agent_place import agent_place
from tests.certificates import issue


@pytest.mark.parametrize(
    "given", ["http://agent:8002", "http://agent:8002/", " http://agent:8002 "]
)
def test_an_address_is_read_as_the_library_reads_it(given: str) -> None:
    place = agent_place({"MLOPS_AGENT_URL": given, "AGENT_OPERATOR_TOKEN": "hush"})
    assert place == ("http://agent:8002", {"Authorization": "Bearer hush"}, True)


def test_what_is_empty_is_not_set() -> None:
    place = agent_place({"MLOPS_AGENT_URL": "", "AGENT_OPERATOR_TOKEN": "", "MLOPS_TLS_CA": ""})
    assert place == ("http://127.0.0.1:8002", {}, True)


def test_an_agent_behind_tls_is_believed_by_who_signed_it(tmp_path: Path) -> None:
    authority = trustme.CA()
    files = issue(tmp_path, authority, "airflow")
    environ = {"MLOPS_TLS_CA": files.ca, "MLOPS_TLS_CERT": files.cert, "MLOPS_TLS_KEY": files.key}

    context = agent_place({name: path or "" for name, path in environ.items()}).verify

    assert isinstance(context, ssl.SSLContext)
    assert context.verify_mode is ssl.CERT_REQUIRED
    (known,) = context.get_ca_certs()
    assert known["subject"] == known["issuer"], "the system's authorities are not among them"
