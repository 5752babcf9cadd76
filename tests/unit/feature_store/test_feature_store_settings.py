"""Where ClickHouse is: defaults, the environment, and refusals that say what was expected."""

from __future__ import annotations

import pytest

from mlops.feature_store.settings import ClickHouseSettings


def test_an_empty_environment_gives_the_defaults() -> None:
    assert ClickHouseSettings.parse({"HOME": "/"}) == ClickHouseSettings(
        host="localhost", port=8123, database="rag_features", user="default", password=""
    )


def test_every_value_is_read() -> None:
    environ = {
        "MLOPS_CLICKHOUSE_HOST": "db",
        "MLOPS_CLICKHOUSE_PORT": "8124",
        "MLOPS_CLICKHOUSE_DATABASE": "mine",
        "MLOPS_CLICKHOUSE_USER": "me",
        "MLOPS_CLICKHOUSE_PASSWORD": "hush",
    }

    settings = ClickHouseSettings.parse(environ)

    assert (settings.host, settings.port, settings.database) == ("db", 8124, "mine")
    assert (settings.user, settings.password) == ("me", "hush")
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "9000", "native protocol"),
        ("PORT", "http", "expected a whole number"),
        ("PORT", "-1", "expected a whole number"),
        ("PORT", "0", r"outside 1\.\.65535"),
        ("PORT", "65536", r"outside 1\.\.65535"),
        ("HOST", "", "host is empty"),
        ("DATABASE", "a;b", "is not a name"),
        ("DATABASE", "1st", "is not a name"),
        ("DATABASE", "a" * 65, "is not a name"),
        ("HOTS", "db", "MLOPS_CLICKHOUSE_HOTS is not a setting"),
    ],
)
def test_a_bad_value_is_named(name: str, value: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        ClickHouseSettings.parse({f"MLOPS_CLICKHOUSE_{name}": value})
