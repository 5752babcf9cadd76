"""Where an INSERT statement ends and its rows begin, when both arrive in one body."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_INSERT_HEAD_BYTES = 65_536
"""How far we look for FORMAT: the longest column list in use has a few hundred names."""

_TOKEN = re.compile(
    rb"""(?P<space>\s+|--[^\n]*(?:\n|$)|\#[^\n]*(?:\n|$)|/\*.*?\*/)
    |(?P<quoted>'(?:[^'\\]|\\.|'')*'|`(?:[^`\\]|\\.|``)*`|"(?:[^"\\]|\\.|"")*")
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_INLINE = frozenset({b"VALUES", b"SELECT", b"WITH", b"FROM", b"WATCH"})
"""After one of these the statement carries its own rows."""

_DATA_START = re.compile(rb"[ \t]*;?[ \t]*\r?\n?")
_RETURNS_ROWS = frozenset(
    {"SELECT", "WITH", "SHOW", "DESC", "DESCRIBE", "EXPLAIN", "EXISTS", "CHECK", "VALUES", "("}
)
_LEADING = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*(\(|\w+)?", re.DOTALL)
_LAST_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s+[^'\"`;]+)?;?\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InsertHead:
    """`INSERT INTO t (a, b)` of `INSERT INTO t (a, b) FORMAT Native <rows>`."""

    target: str
    settings: str
    """The SETTINGS clause between target and FORMAT, or nothing."""
    input_format: str
    data_at: int
    """Offset of the first byte of the rows."""

    @property
    def sql(self) -> str:
        """The statement without its FORMAT clause."""
        return self.target + self.settings

    def from_file(self, path: str) -> str:
        """The same statement, with its rows in a file."""
        source = f"FROM INFILE '{path}' COMPRESSION 'none'"
        return f"{self.target} {source} {self.settings} FORMAT {self.input_format}"


def insert_head(body: bytes) -> InsertHead | None:
    """The head of an INSERT whose rows follow a FORMAT clause; None for any other statement."""
    depth = 0
    first = True
    position = settings_at = 0
    limit = min(len(body), MAX_INSERT_HEAD_BYTES)
    while position < limit and (token := _TOKEN.match(body, position, limit)):
        position = token.end()
        if token.lastgroup == "space":
            continue
        if token.lastgroup == "word":
            word = token.group().upper()
            if first and word != b"INSERT":
                return None
            first = False
            if depth == 0 and word in _INLINE:
                return None
            if depth == 0 and word == b"SETTINGS":
                settings_at = token.start()
            if depth == 0 and word == b"FORMAT":
                return _with_format(body, settings_at or token.start(), token)
            continue
        if first:
            return None
        depth += {b"(": 1, b")": -1}.get(token.group(), 0)
    return None


def _with_format(body: bytes, target_end: int, word: re.Match[bytes]) -> InsertHead | None:
    name = re.compile(rb"\s+(\w+)").match(body, word.end())
    if name is None:
        return None
    data = _DATA_START.match(body, name.end())
    assert data is not None, "every part of the pattern is optional"
    return InsertHead(
        target=body[:target_end].decode(),
        settings=body[target_end : word.start()].decode(),
        input_format=name.group(1).decode(),
        data_at=data.end(),
    )


def returns_rows(sql: str) -> bool:
    """Whether the statement answers with a table (and so has an output format)."""
    found = _LEADING.match(sql)
    return found is not None and (found.group(1) or "").upper() in _RETURNS_ROWS


def output_format(sql: str, default: str) -> str:
    """The format that the answer to `sql` will have."""
    found = _LAST_FORMAT.search(sql)
    return found.group(1) if found else default
