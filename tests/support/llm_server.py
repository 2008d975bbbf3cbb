"""A language model's HTTP endpoint that answers by a rule a reader can see, or misbehaves as it is told.

python -m tests.support.llm_server PORT      # reverses every list, until killed; prints its URL first
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Say = Callable[[bytes], Awaitable[None]]
Behaviour = Callable[["Asked", Say], Awaitable[None]]
"""Writes what goes over the wire; the connection is closed when it returns, unless it kept to `answer`."""

WHY = "It goes well with what you bought"


class Asked:
    """One request as it came: header names are lower case."""

    def __init__(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self.path, self.headers, self.body = path, headers, json.loads(body)

    @property
    def items(self) -> list[dict[str, Any]]:
        data: dict[str, list[dict[str, Any]]] = json.loads(self.body["messages"][-1]["content"])
        return data["items"]

    @property
    def numbers(self) -> list[int]:
        return [item["n"] for item in self.items]


def http(body: bytes, status: str = "200 OK", headers: str = "", kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def completion(content: str | None) -> bytes:
    return json.dumps(
        {
            "object": "chat.completion",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 300, "completion_tokens": 40, "total_tokens": 340},
        }
    ).encode()


def ordered(numbers: list[int], why: str = WHY) -> str:
    return json.dumps({"items": [{"n": n, "why": why} for n in numbers]})


async def reverses(asked: Asked, say: Say) -> None:
    """What a good endpoint does: the list from its end, each with one sentence."""
    await say(http(completion(ordered(asked.numbers[::-1]))))


def says(content: str | None) -> Behaviour:
    """This text as the model's, whatever was asked."""

    async def behave(asked: Asked, say: Say) -> None:
        await say(http(completion(content)))

    return behave


def sends(raw: bytes) -> Behaviour:
    """These bytes, and the end of the connection."""

    async def behave(asked: Asked, say: Say) -> None:
        await say(raw)

    return behave


def slow(seconds: float) -> Behaviour:
    """Like `reverses`, later."""

    async def behave(asked: Asked, say: Say) -> None:
        await asyncio.sleep(seconds)
        await reverses(asked, say)

    return behave


async def trickles(asked: Asked, say: Say) -> None:
    """A sound answer, one byte every 50 ms."""
    for byte in http(completion(ordered(asked.numbers[::-1]))):
        await say(bytes([byte]))
        await asyncio.sleep(0.05)


async def never_ends(asked: Asked, say: Say) -> None:
    """A body without a length, of blanks, which JSON allows before its first sign, for as long as somebody reads."""
    await say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        await say(b" " * 65_536)


async def echoes_the_key(asked: Asked, say: Say) -> None:
    """The secret of the request in every place where a client might repeat it."""
    key = asked.headers["authorization"]
    await say(http(key.encode(), f"401 {key}", f"X-Key: {key}\r\n", "text/plain"))


def zipped_bomb() -> bytes:
    """50 MB of blanks in 50 kB."""
    return http(zlib.compress(b" " * 50_000_000), headers="Content-Encoding: deflate\r\n")


class LlmServer:
    """Listens on 127.0.0.1 between entering and leaving; `behave` may be changed at any time.

    asked: every request that came. connections: how many are open now.
    """

    def __init__(self, behave: Behaviour = reverses, port: int = 0) -> None:
        self.behave = behave
        self.asked: list[Asked] = []
        self.connections = 0
        self._came = asyncio.Condition()
        self._port = port
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def came(self, count: int) -> None:
        """Returns when so many requests have come."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.asked) >= count)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1

        async def say(raw: bytes) -> None:
            writer.write(raw)
            await writer.drain()

        try:
            while (asked := await _request(reader)) is not None:
                self.asked.append(asked)
                async with self._came:
                    self._came.notify_all()
                behave = self.behave
                await behave(asked, say)
                if behave is not reverses:
                    break
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass  # the client has had enough, or the test has
        finally:
            self.connections -= 1
            self._tasks.discard(task)
            writer.close()


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Asked(first.split()[1], headers, await reader.readexactly(int(headers["content-length"])))


@contextmanager
def llm_process() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`reverses` in a process of its own, to be killed: (URL, process)."""
    command = [sys.executable, "-m", "tests.support.llm_server", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    with process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


async def _main(port: int) -> None:
    async with LlmServer(port=port) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
