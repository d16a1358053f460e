"""One request to a store: admitted by the gate, given up after a time, tried again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from fsspec.asyn import sync

from intake_tiffstack.settings import setting_number
from intake_tiffstack.storage.failures import (
    http_status,
    is_cut_short,
    is_transient,
    store_exceptions,
)
from intake_tiffstack.storage.gate import Gate, shared_gate
from intake_tiffstack.storage.urls import store_of

__all__ = ["PAUSES", "Patience", "ask", "may_pass", "persist"]

PAUSES = (0.5, 8.0)
"""Seconds before the second attempt, doubled each time; and the longest."""

Once = Callable[[Callable[[], None]], Awaitable[None]]
"""Makes one request; calls its argument whenever something arrives."""


@dataclass(frozen=True)
class Patience:
    """The settings ``retries``, ``timeout`` and ``concurrency``."""

    retries: int
    timeout: float | None
    """None for filesystems that have timeouts of their own."""
    concurrency: int

    @classmethod
    def of_settings(cls, *, has_timeout: bool = True) -> Self:
        """Return what the settings are now.

        Raises
        ------
        OptionError
            If one of them is out of range.
        """
        return cls(
            int(setting_number("retries", least=0)),
            setting_number("timeout", least=1e-3) if has_timeout else None,
            int(setting_number("concurrency", least=1)),
        )


async def persist(
    once: Once,
    url: str,
    patience: Patience,
    is_passing: Callable[[BaseException], bool] = is_transient,
) -> None:
    """Make a request to the store of *url*; after a failure that may pass, again after a pause."""
    gate = shared_gate(asyncio.get_running_loop(), store_of(url), patience.concurrency)
    pause, longest = PAUSES
    for left in range(patience.retries, -1, -1):
        try:
            async with gate:
                await _attempt(once, patience.timeout, gate)
            return
        except store_exceptions() as exc:
            if not left or not is_passing(exc):
                raise
            if http_status(exc) in (429, 503):
                gate.slow_down()
        # a random part, so that workers do not retry at the same moment
        await asyncio.sleep(pause * random.uniform(0.5, 1))
        pause = min(2 * pause, longest)


def may_pass(filesystem: Any) -> Callable[[BaseException], bool]:
    """Return what decides whether a failure of a filesystem is repeated here. Pure.

    On S3 botocore repeats, request by request; only a body that broke off is left to be read again
    here. Nothing repeats on HTTP.
    """
    return is_transient if "http" in filesystem.protocol else is_cut_short


def ask(filesystem: Any, method: str, path: str, **options: Any) -> Any:
    """Return what a method of an fsspec filesystem does, within the settings of this package.

    A listing on S3 has as many requests as pages; on HTTP the whole is one request or two.
    Filesystems of other stores have limits of their own.
    """
    is_http = "http" in filesystem.protocol
    if not is_http and "s3" not in filesystem.protocol:
        return getattr(filesystem, method)(path, **options)
    results: list[Any] = []
    asynchronous = getattr(filesystem, f"_{method}")

    async def once(is_alive: Callable[[], None]) -> None:
        try:
            results.append(await asynchronous(path, **options))
        except FileNotFoundError as exc:
            # fsspec's HTTP raises it for everything, even a refused connection
            if is_http and exc.__cause__ is not None:
                raise exc.__cause__ from None
            raise

    patience = Patience.of_settings(has_timeout=is_http and method == "info")
    sync(filesystem.loop, persist, once, path, patience, may_pass(filesystem))
    return results[-1]


async def _attempt(once: Once, timeout: float | None, gate: Gate) -> None:
    """Make a request once; it fails if nothing arrives for *timeout* seconds."""
    loop = asyncio.get_running_loop()
    begin, has_begun = loop.time(), False

    def is_alive() -> None:
        nonlocal has_begun
        now = loop.time()
        if not has_begun:
            has_begun = True
            gate.learn(now - begin)
        limit.reschedule(None if timeout is None else now + timeout)

    try:
        async with asyncio.timeout(timeout) as limit:
            await once(is_alive)
    except TimeoutError as exc:
        if limit.expired():
            raise TimeoutError(f"nothing came for {timeout:g} seconds") from exc
        raise
