"""A web server with ranges and ETags that answers after a delay: ``python -m ... FOLDER DELAY``.

A process of its own. It prints its port, and serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["serve_from_afar"]

DELAY = 0.03
"""Seconds."""


@contextmanager
def serve_from_afar(folder: Path) -> Iterator[str]:
    """Serve a folder until the block ends, and yield its URL."""
    command = [sys.executable, "-m", "benchmarks.distant_server", str(folder), str(DELAY)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process was started without pipes")
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()


async def _serve(folder: Path, delay: float) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.StreamResponse:
        path = folder / request.path.lstrip("/")
        if path.name == "names.json":
            return web.json_response(sorted(file.name for file in path.parent.iterdir()))
        await asyncio.sleep(delay)
        if not path.is_file():
            return web.Response(status=404)
        return web.FileResponse(path)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), float(sys.argv[2])))
