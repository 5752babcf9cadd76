"""What the file says about recording, and what of it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.config import load, parse
from gateway.features.redaction import Drop, Hash, Mask
from gateway.recorder.rules_file import RulesFile, rules_of
from gateway.settings import RecordSettings, RedactSettings

FILE = """
spool: {dir: var/spool, fsync: 200ms}
routes:
  - name: rag
    match: {prefix: /}
    stable: {version: "1", endpoints: ["http://127.0.0.1:8011"]}
    record:
      profile: tei
      sample: 10%
      fields: {query_text: /input/0, retrieved: "answer:/hits"}
      redact:
        embedding: drop
        user_id: {hash: {env: HASH_SECRET}}
        query_text: {mask: [email, card]}
"""
SECRET = {"HASH_SECRET": "sixteen bytes at least"}


def record_of(text: str) -> RecordSettings:
    return parse(text, {}).routes[0].record


def test_what_is_recorded_is_read() -> None:
    settings = parse(FILE, {})
    assert settings.spool is not None
    assert settings.spool.fsync_s == 0.2
    record = settings.routes[0].record
    assert (record.profile, record.sample_percent) == ("tei", 10)
    assert [pointer.feature for pointer in record.pointers] == ["query_text", "retrieved"]
    assert record.redact == (
        RedactSettings(feature="embedding"),
        RedactSettings(feature="user_id", secret_variable="HASH_SECRET"),
        RedactSettings(feature="query_text", mask=frozenset({"email", "card"})),
    )


def test_without_a_word_the_kernel_chooses_when_to_write() -> None:
    spool = parse(FILE.replace(", fsync: 200ms", ", fsync: off"), {}).spool
    assert spool is not None
    assert spool.fsync_s is None


MISTAKES = [
    ("fsync: 200ms", "fsync: 10ms", "spool.fsync: expected at least 50ms, got '10ms'"),
    ("fsync: 200ms", "limit: 1MiB", "spool.limit: expected at least 4MiB, got 1,048,576 bytes"),
    ("dir: var/spool", "dir: ''", "spool.dir: expected a directory, got an empty text"),
    ("spool: {", "state: ''\nspool: {", "state: expected a directory, got an empty text"),
    ("fsync: 200ms", "fsync: always", "spool.fsync: expected off, or how often: expected a dur"),
    ("profile: tei", "profile: openia", "routes[0].record.profile: expected one of auto, kserve"),
    ("/input/0", "input", "routes[0].record.fields: query_text: expected a JSON pointer such as"),
    ("{query_text: /input", "{query: /input", "routes[0].record.fields: expected one of answer_ch"),
    ("embedding: drop", "embeding: drop", "routes[0].record.redact.embeding: no such feature"),
    ("embedding: drop", "embedding: gone", "redact.embedding: expected drop, a hash or a mask"),
    ("embedding: drop", "embedding: {mask: [ip]}", "redact.embedding: no text, it can only be"),
    ("[email, card]", "[]", "redact.query_text: expected one of {hash: {env: NAME}} and {mask"),
    ("[email, card]", "[iban]", "redact.query_text.mask: expected some of email, card, ip, ph"),
    ("hash: {env", "hash: {enf", "unknown key 'enf'; did you mean 'env'?"),
]


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES, ids=[m[1] for m in MISTAKES])
def test_a_mistake_is_named_with_its_key(right: str, wrong: str, said: str) -> None:
    assert right in FILE
    with pytest.raises(ValueError, match=r"^(spool|state|routes)") as caught:
        parse(FILE.replace(right, wrong), {})
    assert said in str(caught.value)


def test_the_recorder_makes_rules_of_it() -> None:
    rules = rules_of(parse(FILE, {}), SECRET).routes["rag"]
    assert rules.redaction == {
        "embedding": Drop(),
        "user_id": Hash(SECRET["HASH_SECRET"].encode()),
        "query_text": Mask(frozenset({"email", "card"})),
    }
    assert rules.pointers == record_of(FILE).pointers


@pytest.mark.parametrize(
    ("environ", "said"), [({}, "has 0 bytes"), ({"HASH_SECRET": "short"}, "has 5 bytes")]
)
def test_a_secret_that_is_none_stops_the_recorder(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=f"redact.user_id: .* HASH_SECRET: the secret {said}"):
        rules_of(parse(FILE, {}), environ)


def test_a_changed_file_is_in_force_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    file = RulesFile(path, SECRET)
    bad: list[bool] = []
    file.on_bad_file = lambda: bad.append(True)
    first = file.rules()
    assert file.rules() is first

    path.write_text(FILE.replace("name: rag", "name: other"))
    assert list(file.rules().routes) == ["other"]

    path.write_text(FILE.replace("embedding: drop", "embedding: gone"))
    assert [list(file.rules().routes) for _ in range(3)] == [["other"]] * 3
    assert len(bad) == 1

    path.unlink()
    assert list(file.rules().routes) == ["other"]


def test_a_recorder_needs_neither_tokens_nor_certificates(tmp_path: Path) -> None:
    """It opens no admin port and asks no upstream: a stolen one can do nothing to the gateway."""
    path = tmp_path / "gateway.yaml"
    path.write_text(
        """
admin:
  listen: 0.0.0.0:8001
  tls: {cert: /not/here.pem, key: /not/here.key}
  tokens: {operator: {env: OPERATOR}, viewer: {env: VIEWER}, file: /not/here.yaml}
"""
        + FILE.replace('8011"]}', '8011"], headers: {authorization: {env: UPSTREAM}}}')
    )
    with pytest.raises(ValueError, match="UPSTREAM is not set or empty"):
        load(path, SECRET)
    rules = RulesFile(path, SECRET).rules()
    assert rules.routes["rag"].redaction["embedding"] == Drop()
