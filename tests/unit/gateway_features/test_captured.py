"""Bodies as real clients and servers of the Open Inference Protocol sent them.

Captured with tritonclient 2.73.0 and kserve 0.21.0 (its client, its model server, and its encoding
of a binary answer, which tritonclient reads back).
"""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.features.extract import extract
from gateway.features.model import NOT_JSON, Body, Features

PATH = "/v2/models/rag/infer"
TRITON_BINARY = (
    b'{"id":"r1","inputs":[{"name":"query_text","shape":[1],"datatype":"BYTES","parameters":'
    b'{"binary_data_size":13}},{"name":"user_id","shape":[1],"datatype":"BYTES","parameters":'
    b'{"binary_data_size":11}},{"name":"top_k","shape":[1],"datatype":"INT32","parameters":'
    b'{"binary_data_size":4}}],"outputs":[{"name":"embedding","parameters":{"binary_data":true}},'
    b'{"name":"relevance_score","parameters":{"binary_data":true}},{"name":"retrieved_ids",'
    b'"parameters":{"binary_data":true}}]}'
    b"\t\x00\x00\x00why \xc3\xa4hm?\x07\x00\x00\x00user-17\x02\x00\x00\x00"
)
TRITON_JSON = (
    b'{"id":"r1","inputs":[{"name":"query_text","shape":[1],"datatype":"BYTES","data":'
    b'["why \\u00E4hm?"]},{"name":"user_id","shape":[1],"datatype":"BYTES","data":["user-17"]},'
    b'{"name":"top_k","shape":[1],"datatype":"INT32","data":[2]}],"outputs":[{"name":"embedding",'
    b'"parameters":{"binary_data":false}},{"name":"relevance_score","parameters":'
    b'{"binary_data":false}},{"name":"retrieved_ids","parameters":{"binary_data":false}}]}'
)
TRITON_UNNAMED = (
    b'{"inputs":[{"name":"TEXT","shape":[1,1],"datatype":"BYTES","parameters":'
    b'{"binary_data_size":13}}],"parameters":{"binary_data_output":true}}'
    b"\t\x00\x00\x00why \xc3\xa4hm?"
)
KSERVE_BINARY = (
    b'{"id":"r2","model_name":"rag","inputs":[{"name":"query_text","shape":[1],"datatype":"BYTES",'
    b'"parameters":{"binary_data_size":13}}],"parameters":{"binary_data_output":true}}'
    b"\t\x00\x00\x00why \xc3\xa4hm?"
)
KSERVE_JSON = (
    b'{"id":"r2","model_name":"rag","inputs":[{"name":"query_text","shape":[1],"datatype":"BYTES",'
    b'"data":["why \xc3\xa4hm?"]}]}'
)
ANSWER_JSON = (
    b'{"model_name":"rag","model_version":"3","id":"r1","parameters":null,"outputs":[{"name":'
    b'"embedding","shape":[1,4],"datatype":"FP32","parameters":null,"data":[0.5,-1.25,3.0,0.0]},'
    b'{"name":"relevance_score","shape":[1],"datatype":"FP64","parameters":null,"data":[0.75]},'
    b'{"name":"retrieved_ids","shape":[2],"datatype":"BYTES","parameters":null,"data":["a","b"]}]}'
)
ANSWER_BINARY = (
    b'{"id":"r1","model_name":"rag","model_version":"3","outputs":[{"name":"embedding","shape":'
    b'[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}},{"name":"relevance_score",'
    b'"shape":[1],"datatype":"FP64","parameters":{"binary_data_size":8}},{"name":"retrieved_ids",'
    b'"shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}},{"name":'
    b'"retrieved_scores","shape":[2],"datatype":"FP16","parameters":{"binary_data_size":4}},'
    b'{"name":"completion_tokens","shape":[1],"datatype":"INT64","parameters":'
    b'{"binary_data_size":8}}]}'
    b"\x00\x00\x00?\x00\x00\xa0\xbf\x00\x00@@\x00\x00\x00\x00"
    b"\x00\x00\x00\x00\x00\x00\xe8?\x01\x00\x00\x00a\x01\x00\x00\x00b\x008\x004"
    b"\x07\x00\x00\x00\x00\x00\x00\x00"
)


def read(asked: bytes, answered: bytes, profile: str = "auto") -> Features:
    """The client of Triton names no content type."""
    return extract(profile, PATH, Body(data=asked), Body(data=answered))


@pytest.mark.parametrize(
    ("asked", "user"),
    [
        pytest.param(TRITON_BINARY, "user-17", id="triton, binary"),
        pytest.param(TRITON_JSON, "user-17", id="triton, json"),
        pytest.param(TRITON_UNNAMED, None, id="triton, a name of the model's own"),
        pytest.param(KSERVE_BINARY, None, id="kserve, binary"),
        pytest.param(KSERVE_JSON, None, id="kserve, json"),
    ],
)
@pytest.mark.parametrize("profile", ["auto", "kserve-v2"])
def test_what_clients_ask(asked: bytes, user: str | None, profile: str) -> None:
    found = read(asked, ANSWER_JSON, profile)
    assert (found.query_text, found.user_id, found.missing) == ("why ähm?", user, [])
    assert found.query_id == "r1"
    assert found.model_reported == "rag:3"


def test_an_answer_in_binary_says_what_one_in_json_does() -> None:
    found = read(TRITON_BINARY, ANSWER_BINARY)
    same = read(TRITON_BINARY, ANSWER_JSON)
    assert found.embedding == same.embedding == [0.5, -1.25, 3.0, 0.0]
    assert found.relevance_score == same.relevance_score == 0.75
    assert found.retrieved_ids == same.retrieved_ids == ["a", "b"]
    assert (found.retrieved_scores, found.completion_tokens) == ([0.5, 0.25], 7)
    assert found.missing == []


ANSWER_JSON_BYTES = ANSWER_BINARY.index(b"}]}") + len(b"}]}")


@given(st.integers(0, len(ANSWER_BINARY) - 1))
@example(ANSWER_JSON_BYTES)
def test_a_binary_answer_that_lacks_its_end_is_not_guessed_at(length: int) -> None:
    found = read(TRITON_BINARY, ANSWER_BINARY[:length])
    if length == ANSWER_JSON_BYTES:  # whole JSON, of tensors without data
        assert found.missing
        assert NOT_JSON not in found.missing
    else:
        assert found.missing == ([NOT_JSON] if length else [])
    assert (found.embedding, found.retrieved_ids) == ([], [])
    assert found.query_text == "why ähm?"


@given(st.binary(max_size=40))
def test_what_follows_the_tensors_makes_it_something_else(more: bytes) -> None:
    found = read(TRITON_BINARY + b"\x00" + more, b"")
    assert (found.query_text, found.missing) == (None, [NOT_JSON])


def tensors(name: str, datatype: str, part: bytes) -> bytes:
    size = {"binary_data_size": len(part)}
    listed = [{"name": name, "datatype": datatype, "shape": [1], "parameters": size}]
    return json.dumps({"outputs": listed}).encode() + part


@pytest.mark.parametrize(
    ("datatype", "part", "value"),
    [
        ("BF16", b"\x40\x3f", [0.75]),
        ("FP16", b"\x00\x3a", [0.75]),
        ("FP64", b"\x00\x00\x00\x00\x00\x00\xe8?", [0.75]),
        ("UINT8", b"\x01", [1.0]),
        ("INT16", b"\xff\xff", [-1.0]),
    ],
)
def test_numbers_of_every_size(datatype: str, part: bytes, value: list[float]) -> None:
    assert read(TRITON_BINARY, tensors("embedding", datatype, part)).embedding == value


@pytest.mark.parametrize(
    ("datatype", "part"),
    [("BYTES", b"\x09\x00\x00\x00abc"), ("BYTES", b"\x01\x00")],
    ids=["an element longer than its tensor", "half a length"],
)
def test_a_tensor_of_texts_that_is_not_one(datatype: str, part: bytes) -> None:
    found = read(TRITON_BINARY, tensors("retrieved_ids", datatype, part))
    assert (found.retrieved_ids, found.missing) == ([], [NOT_JSON])


def test_an_image_beside_a_text_leaves_the_text() -> None:
    image = tensors("image", "BYTES", b"\x02\x00\x00\x00\xff\xd8")
    found = read(TRITON_BINARY, image)
    assert (found.query_text, found.missing) == ("why ähm?", [])


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(data: bytes) -> None:
    read(data, data)
    read(tensors("embedding", "FP32", data), tensors("retrieved_ids", "BYTES", data))
