"""The gateway's file: what it may say, and that every mistake is named with file, key and value."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import ConfigError, load, parse
from gateway.settings import Address, RetrySettings, StickySettings, TimeoutSettings

ENVIRON = {"OPERATOR": "operator-secret", "VIEWER": "viewer-secret", "UPSTREAM": "Bearer-key"}

FULL = """
listen: 127.0.0.1:8000
workers: 2
drain: 90s
admin: {listen: 127.0.0.1:8001, tokens: {operator: {env: OPERATOR}, viewer: {env: VIEWER}}}
state: var/gateway
spool: {dir: var/spool, limit: 2GiB}
routes:
  - name: rag
    model: rag_embedding_model
    match: {prefix: /, host: Models.Example, methods: [GET, POST]}
    managed: false
    stable:
      version: 1.2.2
      endpoints: ["http://127.0.0.1:8011"]
      headers: {x-key: {env: UPSTREAM}}
    canary: {version: 1.3.0, endpoints: ["http://127.0.0.1:8012"], weight: 10}
    sticky: {header: X-User-Id}
    override: false
    timeouts: {connect: 500ms, first_byte: 1m, idle: 1h}
    retry: {attempts: 2, budget: 20%, on: [connect, reset, 502, 503]}
    mirror: {to: canary, percent: 0}
    record: {profile: auto, bodies: 64KiB, sample: 100%}
"""

SHORT = """
routes:
  - name: rag
    match: {prefix: /}
    stable: {version: 1.2.2, endpoints: ["http://127.0.0.1:8011"]}
"""


def test_every_key_of_the_file_arrives() -> None:
    settings = parse(FULL, ENVIRON)
    assert settings.listen == (Address(host="127.0.0.1", port=8000),)
    assert (settings.admin.host, settings.admin.port) == ("127.0.0.1", 8001)
    assert settings.admin.operator_token == "operator-secret"
    assert settings.admin.viewer_token == "viewer-secret"
    assert settings.state_dir == Path("var/gateway")
    assert (settings.workers, settings.drain_s) == (2, 90)
    assert settings.spool is not None
    assert settings.spool.dir == Path("var/spool")
    assert settings.spool.limit_bytes == 2 * 1024**3
    (route,) = settings.routes
    assert (route.name, route.model, route.managed) == ("rag", "rag_embedding_model", False)
    assert route.match.host == "models.example"
    assert route.match.methods == {b"GET", b"POST"}
    assert route.stable.headers == {"x-key": "Bearer-key"}
    assert route.canary is not None
    assert (route.canary.version, route.canary_share_bp) == ("1.3.0", 1000)
    assert route.sticky == StickySettings(header="x-user-id")
    assert route.timeouts == TimeoutSettings(connect_s=0.5, first_byte_s=60, idle_s=3600)
    assert route.retry == RetrySettings(
        attempts=2, budget_percent=20, on=frozenset({"connect", "reset", "502", "503"})
    )
    assert (route.record.profile, route.record.bodies_bytes) == ("auto", 65_536)


def test_a_route_needs_name_match_and_stable_and_nothing_else() -> None:
    settings = parse(SHORT, {})
    (route,) = settings.routes
    assert route.model == "rag"
    assert route.canary is None
    assert settings.spool is None
    assert settings.listen == (Address(host="127.0.0.1", port=8000),)
    assert settings.admin.operator_token is None


def test_several_addresses_and_a_unix_socket() -> None:
    text = f"listen: [127.0.0.1:8000, '[::1]:8000', 'unix:/run/g.sock']\n{SHORT}"
    assert parse(text, {}).listen == (
        Address(host="127.0.0.1", port=8000),
        Address(host="::1", port=8000),
        Address(path="/run/g.sock"),
    )


MISTAKES = [
    ("idle: 1h", "idel: 1h", "routes[0].timeouts: unknown key 'idel'; did you mean 'idle'?"),
    ("state: var", "stat: var", "unknown key 'stat'; did you mean 'state'?"),
    ("{env: UPSTREAM}", "{enf: UPSTREAM}", "unknown key 'enf'; did you mean 'env'?"),
    ("    match:", "    mtch:", "routes[0]: unknown key 'mtch'; did you mean 'match'?"),
    ("connect: 500ms", "connect: 5", "routes[0].timeouts.connect: expected a duration"),
    ("idle: 1h", "idle: 0s", "above 0"),
    ("idle: 1h", f"idle: {10**400}h", "expected a duration"),
    ("idle: 1h", "idle: !!timestamp soon", "not YAML"),
    ("idle: 1h", "idle: !!float ''", "not YAML"),
    ("idle: 1h", "idle: !!bool maybe", "not YAML"),
    ("weight: 10", f"weight: {10**400}", "expected a percentage from 0 to 100"),
    ("state: var", "state: " + "[" * 5_000, "not YAML"),
    ("limit: 2GiB", "limit: 2GB", "spool.limit: expected a size"),
    ("budget: 20%", "budget: 120%", "routes[0].retry.budget: expected a percentage from 0 to 100"),
    ("weight: 10", "weight: 96", "routes[0].canary.weight: expected at most 95"),
    ("weight: 10", "weight: 10.005", "at most two decimals"),
    ("managed: false", "managed: true", "the route is managed"),
    ("managed: false", "managed: maybe", "routes[0].managed: expected bool, got str ('maybe')"),
    ("1.2.2", "1.2", "routes[0].stable.version: expected str, got float (1.2); put the version"),
    ("8001, ", "x, ", "admin.listen: expected HOST:PORT"),
    ("127.0.0.1:8000", "127.0.0.1:70000", "listen: expected HOST:PORT"),
    ("prefix: /,", "prefix: v1,", "routes[0].match.prefix: expected a path that starts with /"),
    ("[GET, POST]", "[get]", "routes[0].match.methods: expected methods such as POST"),
    ("workers: 2", "workers: 300", "workers: expected 0 (one for each core) to 256"),
    ("sample: 100%", "sample: 101%", "routes[0].record.sample: expected a percentage from 0"),
    ("state:", "workers: 1\nstate:", "the key 'workers' stands twice"),
    ("name: rag", "name: ../rag", "routes[0].name: expected 1 to 63 letters"),
    ("attempts: 2", "attempts: 9", "routes[0].retry.attempts: expected 1 to 5, got 9"),
    ("[connect, reset, 502, 503]", "[conect]", "routes[0].retry.on: expected connect"),
    (
        '["http://127.0.0.1:8012"]',
        '["127.0.0.1:8012"]',
        "routes[0].canary: version '1.3.0': endpoint",
    ),
    ('["http://127.0.0.1:8012"]', "[]", "routes[0].canary: version '1.3.0' has no endpoints"),
    ('"http://127.0.0.1:8012"', '"http://127.0.0.1:8012/v1"', "expected http://HOST:PORT and"),
    (
        "{x-key: {env: UPSTREAM}}",
        "{Content-Length: '3'}",
        "header 'Content-Length' is the gateway's",
    ),
    (
        "version: 1.3.0",
        'version: "1.3\\n0"',
        r"routes[0].canary: version '1.3\n0': expected printable",
    ),
    ("env: OPERATOR", "env: MISSING", "the environment variable MISSING is not set"),
    ("env: VIEWER", "env: OPERATOR", "admin.tokens: operator and viewer are the same token"),
    ("bodies: 64KiB", "bodies: 2MiB", "routes[0].record.bodies: expected at most 1024KiB"),
    ("routes:", "routes: [", "line"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_a_mistake_is_named_with_its_key_and_what_was_expected(
    tmp_path: Path, right: str, wrong: str, said: str
) -> None:
    assert right in FULL
    path = tmp_path / "gateway.yaml"
    path.write_text(FULL.replace(right, wrong))
    with pytest.raises(ConfigError) as caught:
        load(path, ENVIRON)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ValueError, match=r"routes\[0\]: the key 'stable' is missing"):
        parse("routes: [{name: rag, match: {}}]", {})


def test_without_tokens_only_loopback_is_allowed() -> None:
    with pytest.raises(ValueError, match=r"without admin\.tokens only a loopback address"):
        parse(f"admin: {{listen: 0.0.0.0:8001}}\n{SHORT}", {})
    with_token = "admin: {listen: 0.0.0.0:8001, tokens: {operator: {env: OPERATOR}}}\n"
    assert parse(with_token + SHORT, ENVIRON).admin.host == "0.0.0.0"


def test_two_routes_may_not_share_a_name() -> None:
    second = SHORT.replace("routes:\n", "")
    with pytest.raises(ValueError, match=r"routes\[1\]\.name: 'rag' is the name of an earlier"):
        parse(SHORT + second, {})


def test_a_secret_written_into_the_file_is_not_repeated_by_the_error() -> None:
    wrong = FULL.replace("operator: {env: OPERATOR}", "operator: hunter2")
    with pytest.raises(ValueError, match=r"admin\.tokens\.operator: expected object") as caught:
        parse(wrong, ENVIRON)
    assert "hunter2" not in str(caught.value)


def test_secrets_are_not_shown_with_the_settings() -> None:
    assert "operator-secret" not in repr(parse(FULL, ENVIRON))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "expected keys such as"),
        (b"\xff\xfe\xff", "not UTF-8"),
        (b"a" * (1024 * 1024 + 1), "longer than"),
        (b"routes: []", "at least one route"),
        (b"{1: 2}", ""),
        (b"[a]: b", ""),
        (b"routes: &a [*a]", ""),
    ],
)
def test_a_file_that_is_no_such_file_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    assert said in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml", {})


def test_caps_on_the_canary_arrive_and_are_kept_by_the_files_own_weight() -> None:
    guard = (
        "    max_canary: 25%\n"
        "    never_canary: {keys: [vip], header: X-Tenant, values: [acme, globex]}\n"
    )
    (route,) = parse(SHORT + guard, {}).routes
    assert route.max_canary_share_bp == 2500
    assert (route.never_canary.keys, route.never_canary.header) == ({b"vip"}, "x-tenant")
    assert route.never_canary.values == {b"acme", b"globex"}
    canary = '    canary: {version: b, endpoints: ["http://h:1"], weight: 26}\n'
    for text, expected in [
        (guard + canary, r"routes\[0\].canary.weight: expected at most max_canary, 25, got 26"),
        ("    max_canary: 96\n", r"routes\[0\].max_canary: expected at most 95"),
        ("    never_canary: {header: x-tenant}\n", "expected header and values together"),
        ("    never_canary: {values: [a]}\n", "expected header and values together"),
        ("    never_canary: {keys: ['']}\n", "never_canary.keys: expected texts"),
        ("    never_canary: {header: 'a b', values: [a]}\n", "expected the name of a header"),
    ]:
        with pytest.raises(ValueError, match=expected):
            parse(SHORT + text, {})
