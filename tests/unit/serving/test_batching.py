from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from mlops.serving.batching import MAX_WAITING_TEXTS, Batched, Batcher, BatchSettings, Embedded
from mlops.serving.bodies import BadRequest


class Lengths:
    """A model whose vector of a text is its length. A call waits until it may go on."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.sides: list[str] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def embed_many(self, texts: Sequence[str], side: str = "document") -> list[Embedded]:
        self.sides.append(side)
        self.calls.append(list(texts))
        assert self.may_go_on.wait(10)
        if "bad" in texts:
            raise BadRequest("bad is not embedded", status=500)
        return [(np.array([len(text)], dtype=np.float32), 1) for text in texts]


def sizes(model: Lengths) -> list[int]:
    return [len(call) for call in model.calls]


async def until_called(model: Lengths, times: int) -> None:
    while len(model.calls) < times:
        await asyncio.sleep(0)


async def texts_that_wait_behind(
    batcher: Batcher, model: Lengths, requests: Sequence[Sequence[str]]
) -> list[asyncio.Task[list[Embedded]]]:
    """Requests that all arrive while one call is under way, which then goes on."""
    model.may_go_on.clear()
    first = asyncio.ensure_future(batcher.embed(model, ["first"]))
    await until_called(model, 1)
    tasks = [asyncio.ensure_future(batcher.embed(model, texts)) for texts in requests]
    await asyncio.sleep(0)
    model.may_go_on.set()
    await first
    return tasks


async def test_what_waits_at_the_same_time_is_one_call_and_everybody_gets_his_own() -> None:
    model, told = Lengths(), list[Batched]()
    batcher = Batcher(BatchSettings(max_texts=64), told.append)

    tasks = await texts_that_wait_behind(batcher, model, [["a" * n] * 2 for n in range(1, 9)])
    answers = await asyncio.gather(*tasks)

    assert sizes(model) == [1, 16]
    assert [[int(vector[0]) for vector, _ in answer] for answer in answers] == [
        [n, n] for n in range(1, 9)
    ]
    assert [(one.requests, one.texts) for one in told] == [(1, 1), (8, 16)]
    assert batcher.waiting_texts == 0


async def test_no_call_has_more_texts_than_the_bound() -> None:
    model = Lengths()
    batcher = Batcher(BatchSettings(max_texts=4))

    tasks = await texts_that_wait_behind(batcher, model, [["x"] * 3, ["x"] * 3, ["x"], ["x"] * 10])
    answers = await asyncio.gather(*tasks)

    assert sizes(model) == [1, 3, 4, 4, 4, 2]
    assert [len(answer) for answer in answers] == [3, 3, 1, 10]


async def test_one_by_one_is_one_text_at_a_time() -> None:
    model = Lengths()
    batcher = Batcher(BatchSettings(max_texts=1, max_delay_s=1))

    tasks = await texts_that_wait_behind(batcher, model, [["x"]] * 5)
    await asyncio.gather(*tasks)

    assert sizes(model) == [1] * 6


async def test_a_batch_holds_one_model_only_and_each_request_gets_the_one_it_came_for() -> None:
    old, new = Lengths(), Lengths()
    batcher = Batcher()

    tasks = await texts_that_wait_behind(batcher, old, [["x"], ["x"]])
    swapped = [asyncio.ensure_future(batcher.embed(new, ["y"])) for _ in range(3)]
    await asyncio.gather(*tasks, *swapped)

    assert [text for call in old.calls for text in call] == ["first", "x", "x"]
    assert [text for call in new.calls for text in call] == ["y"] * 3


async def test_a_batch_holds_one_side_only() -> None:
    model = Lengths()
    batcher = Batcher()

    tasks = await texts_that_wait_behind(batcher, model, [["x"], ["x"]])
    tasks.append(asyncio.ensure_future(batcher.embed(model, ["y"], "query")))
    await asyncio.gather(*tasks)

    assert set(zip(map(tuple, model.calls), model.sides, strict=True)) == {
        (("first",), "document"),
        (("x", "x"), "document"),
        (("y",), "query"),
    }


async def test_a_text_that_breaks_the_model_breaks_only_its_own_request() -> None:
    model = Lengths()
    batcher = Batcher()

    tasks = await texts_that_wait_behind(batcher, model, [["one"], ["bad"], ["three"]])
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(answer, BadRequest) for answer in answers] == [False, True, False]
    assert (await batcher.embed(model, ["after"]))[0][1] == 1


async def test_who_goes_away_is_left_out() -> None:
    model = Lengths()
    batcher = Batcher()
    model.may_go_on.clear()
    first = asyncio.ensure_future(batcher.embed(model, ["first"]))
    await until_called(model, 1)
    gone = asyncio.ensure_future(batcher.embed(model, ["gone"]))
    stays = asyncio.ensure_future(batcher.embed(model, ["stays"]))
    await asyncio.sleep(0)

    gone.cancel()
    await asyncio.sleep(0)
    model.may_go_on.set()
    await asyncio.gather(first, stays)

    assert model.calls == [["first"], ["stays"]]


async def test_a_lone_request_waits_for_nobody() -> None:
    model = Lengths()
    batcher = Batcher(BatchSettings(max_delay_s=1))
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    batcher._observe = lambda one: waits.append(one.waited_s)

    for _ in range(3):
        await batcher.embed(model, ["x"])

    assert loop.is_running()
    assert max(waits) < 1, "the bound on the delay was never waited for"


async def test_company_is_waited_for_up_to_the_bound_and_no_longer() -> None:
    model, waits = Lengths(), list[float]()
    batcher = Batcher(BatchSettings(max_delay_s=0.05), lambda one: waits.append(one.waited_s))
    tasks = await texts_that_wait_behind(batcher, model, [["x"], ["x"]])
    await asyncio.gather(*tasks)

    await batcher.embed(model, ["alone after company"])

    assert sizes(model) == [1, 2, 1]
    assert waits[-1] > 0.049  # a timer may be early by the resolution of the clock


async def test_past_the_bound_a_request_is_told_to_come_again() -> None:
    model = Lengths()
    batcher = Batcher(BatchSettings(max_texts=MAX_WAITING_TEXTS))
    model.may_go_on.clear()
    first = asyncio.ensure_future(batcher.embed(model, ["first"]))
    await until_called(model, 1)
    waiting = asyncio.ensure_future(batcher.embed(model, ["x"] * MAX_WAITING_TEXTS))
    await asyncio.sleep(0)

    with pytest.raises(BadRequest, match="4096 texts wait") as refused:
        await batcher.embed(model, ["x"])

    assert refused.value.status == 503
    model.may_go_on.set()
    await asyncio.gather(first, waiting)


@pytest.mark.parametrize("bad", [{"max_texts": 0}, {"max_delay_s": -1}, {"max_delay_s": 2}])
def test_bounds_that_are_none_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        BatchSettings(**bad)  # type: ignore[arg-type]
