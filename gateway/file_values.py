"""Words and units of the files that people write: durations, sizes, percents, addresses, YAML.

Everything raises ValueError saying what was expected and what came; the caller adds file and key.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from math import inf

import msgspec
import yaml

from gateway.settings import Address
from mlops.contracts.slot_values import parse_endpoint as split_endpoint

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS_PER = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)")
_BYTES_PER = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)%")
_PORTS = range(65_536)


class FileKeys(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of everything in a file: an unknown key is an error."""


class EnvironmentValue(FileKeys):
    """`{env: NAME}`: a secret that stands in the environment, not in the file."""

    env: str


class Duration:
    """`500ms`, `30s`, `10m`, `1h`; above 0."""

    __slots__ = ("seconds",)

    def __init__(self, text: object) -> None:
        match = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if match is None or not 0 < float(match[1]) < inf:
            raise ValueError(
                f"expected a duration above 0 such as 500ms, 30s, 10m or 1h, got {text!r}"
            )
        self.seconds = float(match[1]) * _SECONDS_PER[match[2]]


class Size:
    """`64KiB`, `2GiB`."""

    __slots__ = ("bytes",)

    def __init__(self, text: object) -> None:
        match = _SIZE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(f"expected a size such as 512B, 64KiB, 16MiB or 2GiB, got {text!r}")
        self.bytes = int(match[1]) * _BYTES_PER[match[2]]


class Percent:
    """`20%`, or the bare number 20; 0 to 100."""

    __slots__ = ("percent",)

    def __init__(self, value: object) -> None:
        match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        if match is not None:
            self.percent = float(match[1])
        elif isinstance(value, int | float) and not isinstance(value, bool):
            self.percent = float(min(max(value, -1), 101))  # a whole number may pass any float
        else:
            raise ValueError(f"expected a percentage such as 20%, got {value!r}")
        if not 0 <= self.percent <= 100:
            raise ValueError(f"expected a percentage from 0 to 100, got {value!r}")


def decode_value(kind: type, value: object) -> object:
    """msgspec's `dec_hook` for the types above."""
    if kind in (Duration, Size, Percent):
        return kind(value)
    raise NotImplementedError(f"no rule for {kind.__name__}")


def parse_address(text: str) -> Address:
    """`127.0.0.1:8000`, `[::1]:8000` or `unix:/run/gateway.sock`."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path:
            raise ValueError(f"expected unix:PATH, got {text!r}")
        return Address(path=path)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"expected [HOST]:PORT around an IPv6 address, got {text!r}")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) in _PORTS):
        raise ValueError(f"expected HOST:PORT or unix:PATH with a port up to 65535, got {text!r}")
    return Address(host=host, port=int(port))


def parse_endpoint(text: str) -> Address:
    """A slot's address: `http[s]://host:port` or `unix:/path`."""
    host, port, path, _ = split_endpoint(text)
    return Address(host=host, port=port, path=path)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core words: `on`, `yes` and dates stay text, and a key stands once.

    PyYAML follows YAML 1.1, which reads the key `on` as the boolean true.
    """

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - PyYAML's signature
    ) -> dict[Hashable, object]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


_KEPT_RESOLVERS = {
    "tag:yaml.org,2002:null": (["~", "n", "N", ""], r"~|null|Null|NULL|"),
    "tag:yaml.org,2002:bool": (list("tTfF"), r"true|True|TRUE|false|False|FALSE"),
    "tag:yaml.org,2002:int": (list("-+0123456789"), r"[-+]?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": (
        list("-+0123456789."),
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?",
    ),
}
"""Tag, first characters, pattern: what a plain word may be besides text."""
_Loader.yaml_implicit_resolvers = {}
for _tag, (_first, _pattern) in _KEPT_RESOLVERS.items():
    _Loader.add_implicit_resolver(_tag, re.compile(f"({_pattern})$"), _first)


_OF_TAGS = (AttributeError, LookupError, ArithmeticError, RecursionError)
"""What PyYAML's conversions raise for tags that do not fit, `!!float` of nothing, or for a thousand
lists in each other."""


def read_yaml(text: str) -> object:
    """Plain values of one YAML document.

    Raises:
        ValueError: not YAML, or a key stands twice; names the line.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader with fewer words
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{line}{exc.problem or exc.context}") from exc
    except (yaml.YAMLError, *_OF_TAGS) as exc:
        raise ValueError(f"not YAML: {exc}") from exc
