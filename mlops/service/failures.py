"""How many wrong tokens an address may come with. Pure: time is an argument."""

from __future__ import annotations

from collections import OrderedDict, deque
from hashlib import blake2b
from typing import Final

MAX_FAILURES: Final = 30
"""Different ones within `WINDOW_S`: more than a person mistypes."""
WINDOW_S: Final = 60.0
MAX_ADDRESSES: Final = 4096
"""Remembered; of more, those that failed longest ago are forgotten."""
DIGEST_BYTES: Final = 8
"""Of a token that was wrong here: it may be right elsewhere, so it is not kept itself."""


class Failures:
    """Failed attempts by address.

    Who guesses sends a new token every time. One that is sent again and again, by a process that
    kept it past its last day, is counted once: it must not shut out the people on its machine.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[str, deque[tuple[float, bytes]]] = OrderedDict()

    def wait_s(self, address: str, now_s: float) -> float:
        """How long the address has to wait before it is listened to; 0: not at all."""
        failed = self._failed.get(address)
        if failed is None or len(failed) < MAX_FAILURES:
            return 0.0
        return max(0.0, failed[0][0] + WINDOW_S - now_s)

    def note(self, address: str, token: str, now_s: float) -> None:
        """Count one failure, unless the same token was counted within the window."""
        failed = self._failed.setdefault(address, deque(maxlen=MAX_FAILURES))
        self._failed.move_to_end(address)
        digest = blake2b(token.encode(errors="surrogateescape"), digest_size=DIGEST_BYTES).digest()
        if any(known == digest and at_s + WINDOW_S > now_s for at_s, known in failed):
            return
        failed.append((now_s, digest))
        if len(self._failed) > MAX_ADDRESSES:
            self._failed.popitem(last=False)
