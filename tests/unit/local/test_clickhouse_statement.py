"""Where an INSERT ends and its rows begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.local.clickhouse_statement import insert_head, output_format, returns_rows


@pytest.mark.parametrize(
    ("statement", "sql", "input_format"),
    [
        ("INSERT INTO t FORMAT Native\n", "INSERT INTO t ", "Native"),
        ("insert into `my db`.t (`a`, b) format TSV ", "insert into `my db`.t (`a`, b) ", "TSV"),
        ("INSERT INTO t (`FORMAT x`) FORMAT CSV\r\n", "INSERT INTO t (`FORMAT x`) ", "CSV"),
        ("-- FORMAT no\nINSERT INTO t FORMAT CSV\n", "-- FORMAT no\nINSERT INTO t ", "CSV"),
        ("/* VALUES */ INSERT INTO t\nFORMAT CSV\n", "/* VALUES */ INSERT INTO t\n", "CSV"),
        (
            "INSERT INTO t (a) SETTINGS x = 'SELECT' FORMAT JSONEachRow\n",
            "INSERT INTO t (a) SETTINGS x = 'SELECT' ",
            "JSONEachRow",
        ),
        ("INSERT INTO FUNCTION f('WITH') FORMAT CSV;\n", "INSERT INTO FUNCTION f('WITH') ", "CSV"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rows", [b"", b"\x00\xffFORMAT CSV\n", b"INSERT INTO"])
def test_the_head_is_found_and_the_rows_are_left_as_they_are(
    statement: str, sql: str, input_format: str, rows: bytes
) -> None:
    body = statement.encode() + rows

    head = insert_head(body)

    assert head is not None
    assert (head.sql, head.input_format) == (sql, input_format)
    assert body[head.data_at :] == rows


@pytest.mark.parametrize(
    ("statement", "from_file"),
    [
        ("INSERT INTO t FORMAT TSV\n", "INSERT INTO t FROM INFILE 'f' FORMAT TSV"),
        (
            "INSERT INTO t (SETTINGS) SETTINGS a = 1 FORMAT TSV\n",
            "INSERT INTO t (SETTINGS) FROM INFILE 'f' SETTINGS a = 1 FORMAT TSV",
        ),
    ],
)  # fmt: skip
def test_the_rows_can_be_taken_from_a_file(statement: str, from_file: str) -> None:
    head = insert_head(statement.encode())

    assert head is not None
    written = head.from_file("f").replace("COMPRESSION 'none'", "")
    assert written.split() == from_file.split()


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES ('FORMAT CSV')",
        "INSERT INTO t (a) VALUES (1)",
        "INSERT INTO t SELECT 1 FORMAT CSV",
        "INSERT INTO t WITH 1 AS a SELECT a",
        "INSERT INTO t FROM INFILE 'x' FORMAT CSV",
        "SELECT 'INSERT INTO t FORMAT CSV'",
        "(SELECT 1)",
        "INSERT INTO t FORMAT",
        "",
        "   ",
        "'INSERT INTO t FORMAT CSV",
    ],
)
def test_other_statements_are_left_whole(statement: str) -> None:
    assert insert_head(statement.encode()) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_failing(body: bytes) -> None:
    head = insert_head(b"INSERT INTO t FORMAT Native\n" + body)

    assert head is not None
    assert head.data_at == 28
    insert_head(body)


@pytest.mark.parametrize(
    ("sql", "rows", "name"),
    [
        ("SELECT 1", True, "TSV"),
        ("/* a */ -- b\n with x as (select 1) select * from x FORMAT Native", True, "Native"),
        ("SELECT 1 FORMAT JSON;", True, "JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", True, "JSON"),
        ("(SELECT 1)", True, "TSV"),
        ("SHOW TABLES", True, "TSV"),
        ("CREATE TABLE t (a Int8) ENGINE = Memory", False, "TSV"),
        ("INSERT INTO t VALUES (1)", False, "TSV"),
        ("", False, "TSV"),
    ],
)
def test_answers_have_a_format_only_where_there_is_a_table(sql: str, rows: bool, name: str) -> None:
    assert returns_rows(sql) is rows
    assert output_format(sql, "TSV") == name
