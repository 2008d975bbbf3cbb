"""Ask on one topic and wait for the answer on another: what any client of the topics does, in forty lines."""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from infra.errors import BrokerUnavailable
from infra.kafka_consumer import ClosingConsumer
from infra.kafka_security import client_arguments, why_away
from infra.settings import KafkaSettings
from serving.messages import RecommendationRequest, Recommendations, parse_recommendations
from streams.topics import RECOMMENDATIONS, REQUESTS


async def ask(settings: KafkaSettings, request: RecommendationRequest) -> Recommendations:
    """Send `request` and return its answer; waits for ever, so call it inside `asyncio.timeout`.

    Raises:
        ConfigurationError: the broker refuses us. InvalidMessage: something on the topic is no answer.
        BrokerUnavailable: it is away, or the topics do not exist.
    """
    shared = client_arguments(settings)
    consumer = ClosingConsumer(
        RECOMMENDATIONS,
        group_id=None,
        auto_offset_reset="latest",
        fetch_max_wait_ms=settings.fetch_wait_ms,
        request_timeout_ms=settings.request_timeout_ms,
        **shared,
    )
    producer = AIOKafkaProducer(request_timeout_ms=settings.request_timeout_ms, **shared)
    try:
        await consumer.start()
        # Find the end of every partition before the request goes out, or the answer may already be behind us.
        for partition in consumer.assignment():
            await consumer.position(partition)
        await producer.start()
        await producer.send_and_wait(REQUESTS, msgspec.json.encode(request), key=request.customer_id.encode())
        async for record in consumer:
            answer = parse_recommendations(record.value or b"")
            if answer.request_id == request.request_id:
                return answer
    except (KafkaError, OSError) as error:
        raise await why_away(settings, error) from error
    finally:
        await producer.stop()
        await consumer.stop()
    raise BrokerUnavailable("the subscription ended before the answer came")
