"""The supervisor's end of one worker: questions and answers, and what it last counted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, TypeVar, assert_never

from gateway.channel import (
    FROM_WORKER,
    STARTED,
    Ask,
    BadMessage,
    Channel,
    Counted,
    Done,
    Failed,
    FromWorker,
    Ready,
    Refused,
    Start,
    ToWorker,
)
from gateway.counts import NOTHING, Counts
from mlops.service.aio import spawn

log = logging.getLogger(__name__)

T = TypeVar("T", Done, Counted)


class NoAnswer(Exception):
    """The worker has gone, or did not answer in time."""


class CannotStart(RuntimeError):
    """The worker says why it cannot serve."""


class NotTaken(Exception):
    """The worker cannot put a change in force, and says why."""


class Hired(Protocol):
    """A worker's process."""

    @property
    def pid(self) -> int:
        """Of the process."""

    @property
    def channel(self) -> Channel:
        """Our end of the pair of sockets."""

    def kill(self) -> None:
        """End it at once; nothing where it has ended."""

    async def wait(self) -> int:
        """Until it has ended; its exit code, negative for a signal."""
        ...


class WorkerLink:
    """One worker from its start to its end."""

    def __init__(self, index: int, hired: Hired, started_at_s: float) -> None:
        self.index = index
        self.pid = hired.pid
        self.name = ""
        """Under which it spools."""
        self.counts: Counts = NOTHING
        """As it last said."""
        self.started_at_s = started_at_s
        self.accepts: tuple[int, ...] = ()
        """Listening sockets that it was told to accept from."""
        self._hired = hired
        self._numbers = 0
        self._waiting: dict[int, asyncio.Future[Done | Counted]] = {}
        self._gone = asyncio.Event()

    async def start(self, start: Start, timeout_s: float) -> None:
        """Have it made ready.

        Raises:
            CannotStart: it says why, or says nothing in time.
        """
        try:
            self.name = await self._made_ready(start, timeout_s)
        except BaseException:
            self._hired.kill()
            self._hired.channel.close()
            raise
        spawn(self._hear(), name=f"worker {self.index}")

    async def _made_ready(self, start: Start, timeout_s: float) -> str:
        self.send(start)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._hired.channel.receive(STARTED)
        except (TimeoutError, BadMessage) as exc:
            said = str(exc) or f"it said nothing within {timeout_s:g} s"
            raise CannotStart(f"worker {self.index} did not start: {said}") from exc
        match answer:
            case Ready():
                return answer.name
            case Failed():
                raise CannotStart(answer.reason)
            case None:
                code = await self._hired.wait()
                raise CannotStart(f"worker {self.index} ended with code {code} as it started")
            case _:
                assert_never(answer)

    def send(self, message: ToWorker) -> None:
        """Queue a message that is not answered."""
        self._hired.channel.send(message)

    async def wait(self) -> int:
        """Until it has ended, and everything it said is taken note of; its exit code."""
        code = await self._hired.wait()
        await self._gone.wait()
        return code

    def kill(self) -> None:
        """End its process at once; `wait` tells when it has."""
        self._hired.kill()

    async def done(self, message: Callable[[int], ToWorker], timeout_s: float) -> None:
        """Have something done. `message` is given the number to send.

        Raises:
            NotTaken: it refuses.
            NoAnswer: it has gone, or does not answer in time.
        """
        await self._answer(message, Done, timeout_s)

    async def count(self, timeout_s: float) -> None:
        """Bring `counts` up to date. Raises NoAnswer."""
        await self._answer(lambda number: Ask(number=number), Counted, timeout_s)

    async def _answer(
        self, message: Callable[[int], ToWorker], kind: type[T], timeout_s: float
    ) -> T:
        if self._gone.is_set():
            raise NoAnswer(f"worker {self.index} has ended")
        self._numbers += 1
        number = self._numbers
        answered: asyncio.Future[Done | Counted] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answered
        self.send(message(number))
        try:
            async with asyncio.timeout(timeout_s):
                answer = await answered
        except TimeoutError as exc:
            raise NoAnswer(f"worker {self.index} did not answer within {timeout_s:g} s") from exc
        finally:
            self._waiting.pop(number, None)
        assert isinstance(answer, kind), f"{answer!r} answers another question"
        return answer

    async def _hear(self) -> None:
        try:
            while (message := await self._hired.channel.receive(FROM_WORKER)) is not None:
                self._take(message)
        except BadMessage:
            log.exception("what worker %d says cannot be read: it is killed", self.index)
            self._hired.kill()
        finally:
            self._gone.set()
            self._hired.channel.close()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(NoAnswer(f"worker {self.index} has ended"))

    def _take(self, message: FromWorker) -> None:
        match message:
            case Counted():
                self.counts = message.counts
                self._settle(message.number, message)
            case Done():
                self._settle(message.number, message)
            case Refused():
                refusal = NotTaken(f"worker {self.index}: {message.reason}")
                self._settle(message.number, refusal)
            case Ready() | Failed():
                raise AssertionError("a worker starts once")
            case _:
                assert_never(message)

    def _settle(self, number: int, answer: Done | Counted | NotTaken) -> None:
        waiting = self._waiting.get(number)
        if waiting is None or waiting.done():
            return  # it answers too late
        if isinstance(answer, NotTaken):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)
