"""Which versions, addresses and headers a slot takes. The same rules on both ends of a plan."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.contracts.plan import Slot
from mlops.contracts.slot_values import parse_endpoint

HERE = "http://127.0.0.1:8012"


def slot(version: str = "1", endpoint: str = HERE, headers: dict[str, str] | None = None) -> Slot:
    """As it comes from a plan on the wire."""
    raw = {"version": version, "endpoints": [endpoint], "headers": headers or {}}
    return msgspec.json.decode(msgspec.json.encode(raw), type=Slot)


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (HERE, ("127.0.0.1", 8012, None, False)),
        ("http://model_server-a.ns.svc", ("model_server-a.ns.svc", 80, None, False)),
        ("http://[::1]:8012", ("::1", 8012, None, False)),
        ("http://[fe80::1%eth0]", ("fe80::1%eth0", 80, None, False)),
        ("https://models.example", ("models.example", 443, None, True)),
        ("https://[::1]:8443", ("::1", 8443, None, True)),
        ("unix:/run/model.sock", (None, 0, "/run/model.sock", False)),
    ],
)
def test_an_address_is_host_and_port_or_a_path(
    endpoint: str, expected: tuple[str | None, int, str | None, bool]
) -> None:
    assert parse_endpoint(slot(endpoint=endpoint).endpoints[0]) == expected


@pytest.mark.parametrize(
    "endpoint",
    [
        "", "h:8012", "ftp://h:8012", "httpss://h:1", "https://h:8012/",
        "HTTP://h:8012", "http://", "http://:8012", "http://h:",
        "http://h:0", "http://h:65536", "http://h:8012/", "http://h:8012/v1", "http://h:8012?a=b",
        "http://h:8012#a", "http://h :8012", "http://h\n:8012", "http://h\t", "http://h:8012\n",
        "http://b\u00fccher", "http://[::1", "http://[h]:1", "http://[1::2::3]", "http://::1",
        "http://" + "h" * 254, "unix:", "unix:/a\nb", "unix:/" + "a" * 107,
    ],
)  # fmt: skip
def test_what_is_no_address_is_named(endpoint: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        slot(endpoint=endpoint)
    assert f"endpoint {endpoint[:200]!r}" in str(caught.value)


@pytest.mark.parametrize("user", ["ann:s3cret@", ":s3cret@", "a:s3cret@b@"])
def test_an_address_with_a_password_is_refused_without_telling_it(user: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"\(hidden\)@h:8012") as caught:
        slot(endpoint=f"http://{user}h:8012")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "version", ["1.2.3", "sha256:" + "0" * 64, "release 7", "\u00e9t\u00e9", "v" * 256]
)
def test_any_printable_text_names_a_version(version: str) -> None:
    assert slot(version).version == version


@pytest.mark.parametrize(
    "version", ["", " ", " 1", "1\n", "1\r\nx: y", "a\tb", "a\0", "\x7f", "a\u2028b", "v" * 257]
)
def test_a_version_that_does_not_fit_one_line_is_refused(version: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"^version "):
        slot(version)


@pytest.mark.parametrize(
    "name",
    [
        "", "bad name", "x:y", "x\r\ny", "\u00e9", "Content-Length", "transfer-encoding", "TE",
        "Connection", "keep-alive", "Proxy-Connection", "trailer", "Upgrade", "expect",
        "HTTP2-Settings", "x-request-id",
    ],
)  # fmt: skip
def test_a_header_that_is_the_gateways_own_or_no_token_is_refused(name: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        slot(headers={name: "s3cret"})
    assert repr(name) in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", ["s3cret\r\nx-admin: 1", "s3cret\0", "s3cret\u00e9", "s" * 8193])
def test_a_value_that_breaks_a_head_is_refused_without_telling_it(value: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="'x-key'") as caught:
        slot(headers={"x-key": value})
    assert value[:6] not in str(caught.value)


@given(version=st.text(max_size=300), name=st.text(max_size=20), value=st.text(max_size=30))
def test_whatever_a_slot_takes_stays_one_line(version: str, name: str, value: str) -> None:
    try:
        taken = Slot(version=version, endpoints=(HERE,), headers={name: value})
    except ValueError:
        return
    line = f"x-served-by: {taken.version}|{name}: {value}".encode("latin-1", "replace")
    assert line.splitlines() == [line]
    assert b"\0" not in line
