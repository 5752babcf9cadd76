"""What upstreams are told about a client, and whom the gateway believes."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.client_rules import ClientRules
from gateway.forwarding import NAMES, Forwarding, is_trusted, names
from gateway.framing import spellings
from gateway.settings import ClientSettings, ForwardedForm, ForwardedMode, ForwardedSettings
from tests.fuzz.harness import Rig

FORGED = {
    b"host": b"a:80",
    b"x-forwarded-for": b"6.6.6.6",
    b"x-forwarded-proto": b"https",
    b"x-forwarded-host": b"evil",
    b"forwarded": b"for=6.6.6.6",
}
OURS = b"x-forwarded-for: 192.0.2.7\r\nx-forwarded-proto: http\r\nx-forwarded-host: a:80\r\n"
APPENDED = (
    b"x-forwarded-for: 6.6.6.6, 192.0.2.7\r\nx-forwarded-proto: https\r\n"
    b"x-forwarded-host: evil\r\nforwarded: for=6.6.6.6\r\n"
)


def lines(headers=FORGED, peer="192.0.2.7", scheme="http", *, http10=False, **settings):
    rules = ClientRules(ClientSettings(forwarded=ForwardedSettings(**settings)))
    forwarding = rules.forwarding(peer, is_tls=scheme == "https")
    assert forwarding.lines(headers, http10=http10) == forwarding.lines(headers, http10=http10)
    return forwarding.lines(headers, http10=http10)


def test_by_default_a_clients_own_values_are_replaced():
    assert lines() == OURS
    assert ClientRules(ClientSettings()).dropped >= NAMES


def test_an_appending_gateway_keeps_what_the_proxies_before_it_said():
    assert lines(mode=ForwardedMode.APPEND) == APPENDED


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("192.0.2.7", APPENDED), ("198.51.100.1", OURS.replace(b"192.0.2.7", b"198.51.100.1"))],
)
def test_only_a_trusted_proxy_is_believed(peer, expected):
    assert lines(peer=peer, trusted=("192.0.2.0/24",)) == expected


def test_off_adds_nothing_and_drops_nothing():
    assert lines(mode=ForwardedMode.OFF) == b""
    settings = ClientSettings(forwarded=ForwardedSettings(mode=ForwardedMode.OFF))
    assert ClientRules(settings).dropped.isdisjoint(NAMES)


@pytest.mark.parametrize(
    ("peer", "host", "expected"),
    [
        ("192.0.2.7", b"a", b"for=192.0.2.7;host=a;proto=https"),
        ("192.0.2.7", b"a:80", b'for=192.0.2.7;host="a:80";proto=https'),
        ("2001:db8::1", b"[::1]", b'for="[2001:db8::1]";host="[::1]";proto=https'),
        ("::ffff:192.0.2.7", None, b"for=192.0.2.7;proto=https"),
        ("fe80::1%eth0", None, b'for="[fe80::1]";proto=https'),
        ("", b"a", b"for=unknown;host=a;proto=https"),
        (
            "192.0.2.7",
            b"a;for=192.0.2.9;by=x",
            b'for=192.0.2.7;host="a;for=192.0.2.9;by=x";proto=https',
        ),
    ],
)
def test_the_standard_form(peer, host, expected):
    headers = {} if host is None else {b"host": host}
    form = ForwardedForm.FORWARDED
    assert lines(headers, peer, "https", form=form) == b"forwarded: " + expected + b"\r\n"
    headers[b"forwarded"] = b"for=1.1.1.1"
    appended = lines(headers, peer, "https", form=form, mode=ForwardedMode.APPEND)
    assert appended == b"forwarded: for=1.1.1.1, " + expected + b"\r\n"


def test_both_forms_and_what_a_trusted_proxy_said_in_the_other_one():
    both = lines(form=ForwardedForm.BOTH)
    assert both == OURS + b'forwarded: for=192.0.2.7;host="a:80";proto=http\r\n'
    standard = lines(form=ForwardedForm.FORWARDED, mode=ForwardedMode.APPEND)
    assert standard.startswith(b"forwarded: for=6.6.6.6, for=192.0.2.7;")
    assert b"x-forwarded-for: 6.6.6.6\r\n" in standard


def test_a_client_on_a_unix_socket_has_no_address():
    assert b"x-forwarded-for" not in lines({b"host": b"a"}, "")
    assert lines(FORGED, "", trusted=("unix",)).startswith(b"x-forwarded-for: 6.6.6.6\r\n")
    assert not is_trusted("", (ip_network("0.0.0.0/0"),))


def test_via_names_us_and_the_version_that_the_client_spoke():
    assert lines({}, mode=ForwardedMode.OFF, via="edge") == b"via: 1.1 edge\r\n"
    assert lines({}, mode=ForwardedMode.OFF, via="edge", http10=True) == b"via: 1.0 edge\r\n"


def test_each_request_gets_its_own_host():
    forwarding = Forwarding(ForwardedSettings(), "192.0.2.7", "http")
    for host in (b"a", b"b", b"a"):
        assert b"x-forwarded-host: %b\r\n" % host in forwarding.lines({b"host": host})
    assert b"x-forwarded-host" not in forwarding.lines({})


@pytest.mark.parametrize("mode", ForwardedMode)
def test_lines_depend_on_a_request_only_where_its_values_are_believed(mode):
    forwarding = Forwarding(ForwardedSettings(mode=mode), "192.0.2.7", "http")
    assert forwarding.depends_on(FORGED) is (mode is ForwardedMode.APPEND)
    assert not forwarding.depends_on({b"host": b"a"})


def test_other_spellings_that_a_server_may_take_for_ours_are_dropped():
    spelt = spellings(b"x-forwarded-for")
    assert spelt == {
        b"x-forwarded-for", b"x_forwarded-for", b"x-forwarded_for", b"x_forwarded_for",
    }  # fmt: skip
    assert spellings(b"forwarded") == {b"forwarded"}
    many = b"-".join([b"a"] * 50)
    assert spellings(many) == {many, many.replace(b"-", b"_")}
    dropped = names(ForwardedSettings())
    assert dropped > NAMES
    assert dropped > spelt
    assert names(ForwardedSettings(mode=ForwardedMode.OFF)) == frozenset()


def test_a_client_cannot_forge_an_address_by_another_spelling():
    rig = Rig()
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nX_Other: 1\r\n\r\n"
    rig.feed(request)
    rig.upstreams[0].protocol.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    rig.settle()
    rig.feed(request)  # read by comparing
    sent = bytes(rig.upstreams[0].written)
    assert sent.count(b"X_Other: 1\r\n") == 2
    assert sent.count(b"x-forwarded-for: 192.0.2.7\r\n") == 2
    assert b"6.6.6.6" not in sent
