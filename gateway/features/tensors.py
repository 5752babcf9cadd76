"""Tensors in binary, behind the JSON that names them: the Open Inference Protocol's extension for
binary data, which its clients use unless they are told otherwise.

The header with the length of the JSON is not spooled: where JSON ends it says itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

from gateway.features.fields import is_object

_NUMBERS = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""Datatypes whose elements have one size, in the letters of `struct`; all are little-endian."""
_LENGTH = struct.Struct("<I")
"""Before each element of a BYTES tensor."""
_JSON = json.JSONDecoder()


def filled(data: bytes, most: int) -> object:
    """The JSON at the start of `data`, its tensors' elements in their places, `most` of each.

    Raises:
        ValueError: `data` does not start with JSON, or what follows is not as long as it says.
    """
    # A character for each byte, so that the end is the same; the text itself is read below.
    _, end = _JSON.raw_decode(data.decode("latin-1"))
    value = json.loads(data[:end])
    for tensor, size in _in_binary(value):
        part, end = data[end : end + size], end + size
        if len(part) < size:
            raise ValueError(f"a tensor of {size} bytes, {len(part)} are there")
        tensor["data"] = _elements(tensor.get("datatype"), part, most)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes behind the last tensor")
    return value


def _in_binary(value: object) -> Iterator[tuple[dict[str, object], int]]:
    """Tensors that are not in the JSON, and their sizes in bytes."""
    for name in ("inputs", "outputs"):
        listed = value.get(name) if is_object(value) else None
        for tensor in listed if isinstance(listed, list) else ():
            parameters = tensor.get("parameters") if is_object(tensor) else None
            size = parameters.get("binary_data_size") if is_object(parameters) else None
            if isinstance(size, int) and size >= 0:
                yield tensor, size


def _elements(datatype: object, part: bytes, most: int) -> list[object]:
    if datatype == "BYTES":
        return _texts(part, most)
    if datatype == "BF16":  # the upper half of a 32-bit float
        halves = struct.unpack_from(f"<{min(most, len(part) // 2)}H", part)
        return [struct.unpack("<f", struct.pack("<I", half << 16))[0] for half in halves]
    letter = _NUMBERS.get(datatype) if isinstance(datatype, str) else None
    if letter is None:
        return []
    count = min(most, len(part) // struct.calcsize(letter))
    return list(struct.unpack_from(f"<{count}{letter}", part))


def _texts(part: bytes, most: int) -> list[object]:
    """None stands for an element that is no text, such as an image."""
    found: list[object] = []
    at = 0
    while at < len(part) and len(found) < most:
        if at + _LENGTH.size > len(part):
            raise ValueError("a BYTES tensor ends in the length of an element")
        (length,) = _LENGTH.unpack_from(part, at)
        at += _LENGTH.size
        if length > len(part) - at:
            raise ValueError(f"an element of {length} bytes, {len(part) - at} are there")
        try:
            found.append(part[at : at + length].decode())
        except UnicodeDecodeError:
            found.append(None)
        at += length
    return found
