"""How many requests a store gets at a time: as many as it answers without slowing down."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import lru_cache

__all__ = ["Gate", "shared_gate"]

FIRST = 64
"""Requests at a time before anything is known of the store: one round trip for so many files."""

LEAST = 10
"""Requests at a time that a slow store gets."""

SLACK = 0.01
"""Seconds that an answer may take longer without being slow: scheduling, not the store."""


class Gate:
    """Admits requests of one event loop, more at a time as long as the answers come promptly.

    A request over a distance is mostly waiting: many together take as long as one, until the
    store, the line or this machine is busy. Then answers take longer, and more requests at a time
    would only wait. So each answer that begins within twice the shortest latency admits one more
    request (which doubles their number per round trip), and each that takes more than four times
    as long admits one less.

    Parameters
    ----------
    most : int
        The most requests at a time.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._least = min(LEAST, most)
        self._shortest = float("inf")
        self._admitted = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.limit = min(FIRST, most)
        """Requests admitted at a time now."""

    async def __aenter__(self) -> None:
        if self._admitted < self.limit:
            self._admitted += 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # admitted and cancelled at the same time
                self._leave()
            raise

    async def __aexit__(self, *args: object) -> None:
        self._leave()

    def _leave(self) -> None:
        self._admitted -= 1
        while self._waiting and self._admitted < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                self._admitted += 1
                turn.set_result(None)

    def learn(self, latency: float) -> None:
        """Take in after how many seconds an answer began."""
        # the shortest is forgotten slowly: the way to the store may have become longer
        self._shortest = min(latency, 1.0005 * self._shortest)
        if latency <= 2 * self._shortest + SLACK:
            if self._admitted >= self.limit:  # else the number of requests was not what limited
                self.limit = min(self._most, self.limit + 1)
        elif latency > 4 * self._shortest + SLACK:
            self.limit = max(self._least, self.limit - 1)

    def slow_down(self) -> None:
        """Admit half as many: the store refused a request as one too many, or broke down."""
        self.limit = max(self._least, self.limit // 2)


@lru_cache(maxsize=64)
def shared_gate(loop: asyncio.AbstractEventLoop, store: str, most: int) -> Gate:
    """Return the gate that all reads of a store share in this process, whatever their thread."""
    return Gate(most)
