"""The two ways to an answer that clients have: HTTP, and the topics."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from itertools import cycle

import aiohttp
import msgspec

from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.settings import Settings
from serving.messages import RecommendationRequest
from streams.topics import RECOMMENDATIONS, REQUESTS

K = 12
CLIENTS = 32  # over HTTP, each with connections of its own
CONNECTIONS = 8  # of one client


class _Answer(msgspec.Struct):
    """As much of an answer as tells whether it is one."""

    request_id: str
    items: list[msgspec.Raw] = []
    degraded: list[str] = []
    error: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Answer).decode
_encode = msgspec.json.Encoder().encode


class HttpLine:
    """`POST /v1/recommendations` by clients in turn, over connections that they keep.

    One pool for all would take the connection that was given back last, and so ask but one of several gateways.
    """

    def __init__(self, sessions: Sequence[aiohttp.ClientSession], url: str) -> None:
        self._sessions = cycle(sessions)
        self._url = f"{url}v1/recommendations"

    async def ask(self, customer_id: str) -> str | None:
        body = _encode({"customer_id": customer_id, "k": K})
        headers = {"Content-Type": "application/json"}
        async with next(self._sessions).post(self._url, data=body, headers=headers) as response:
            raw = await response.read()
            return f"status {response.status}" if response.status != 200 else _failure(_decode(raw))


class KafkaLine:
    """A request on its topic, its answer on the other."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: dict[str, asyncio.Future[str | None]] = {}

    async def ask(self, customer_id: str) -> str | None:
        request = RecommendationRequest(request_id=uuid.uuid4().hex, customer_id=customer_id, k=K)
        future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = future
        try:
            await self._producer.send(REQUESTS, customer_id.encode(), _encode(request))
            return await future
        finally:
            self._waiting.pop(request.request_id, None)

    async def hear(self, consumer: BatchConsumer) -> None:
        """Hand over what is answered, until cancelled."""
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                for record in records:
                    answer = _decode(record.value)
                    waiting = self._waiting.get(answer.request_id)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(_failure(answer))


@contextlib.asynccontextmanager
async def http_line(url: str) -> AsyncIterator[HttpLine]:
    """`url`: where the gateway is, with a slash at its end."""
    async with contextlib.AsyncExitStack() as stack:
        connectors = (aiohttp.TCPConnector(limit=CONNECTIONS) for _ in range(CLIENTS))
        sessions = [await stack.enter_async_context(aiohttp.ClientSession(connector=one)) for one in connectors]
        yield HttpLine(sessions, url)


@contextlib.asynccontextmanager
async def kafka_line(settings: Settings) -> AsyncIterator[KafkaLine]:
    kafka = settings.kafka
    consumer = BatchConsumer(kafka, [RECOMMENDATIONS], batch_size=1_000, from_beginning=False)
    async with Producer(kafka) as producer, consumer:
        while not consumer.assignment:
            await consumer.getmany(timeout_ms=50)
        line = KafkaLine(producer)
        hearing = asyncio.create_task(line.hear(consumer))
        try:
            yield line
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


def _failure(answer: _Answer) -> str | None:
    """Why it is no answer as it should be; None where it is one."""
    if bytes(answer.error) not in (b"", b"null"):
        return "error"
    if answer.degraded:
        return answer.degraded[0]
    return None if len(answer.items) == K else "short"
