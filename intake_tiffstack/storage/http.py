"""What this package uses of fsspec's HTTP filesystem beyond fsspec's interface, in one place.

fsspec gives a range without the headers of its response, which say of which file it is.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["get_range"]


@asynccontextmanager
async def get_range(filesystem: Any, url: str, header: str) -> AsyncIterator[Any]:
    """Yield aiohttp's response to one GET with the header ``Range``, its body not yet read."""
    options = dict(filesystem.kwargs)
    headers = {
        **options.pop("headers", {}),
        "Range": header,
        "Accept-Encoding": "identity",  # bytes of the file itself, not compressed for transfer
    }
    session = await filesystem.set_session()
    async with session.get(filesystem.encode_url(url), headers=headers, **options) as answer:
        yield answer
