"""A purchase on the topic changes the answers on the topic, through the real broker and both Faust processes."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta

import msgspec
import pytest

from infra.kafka import Producer
from infra.kafka_consumer import BatchConsumer
from infra.settings import Settings
from offline.smoke import applied_events, client, count_messages, warm_up
from serving.messages import STRATEGIES, Recommendations
from streams.events import Event
from streams.redis_store import open_store
from streams.topics import DEAD_LETTERS, RECOMMENDATIONS, REQUESTS, TRANSACTIONS
from tests.e2e.conftest import PRESENT
from tests.support.tiny import article_number
from tests.support.tiny_fixture import Tiny

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def purchase(customer: str, article: str, at: datetime) -> Event:
    return Event(
        event_id=uuid.uuid4().hex,
        type="purchase",
        occurred_at=at,
        customer_id=customer,
        article_id=article,
        price=9.5,
    )


async def test_purchases_turn_a_stranger_into_a_shoe_buyer(settings: Settings) -> None:
    customer = f"stranger-{uuid.uuid4().hex[:8]}"
    async with client(settings) as one:
        await warm_up(one, "somebody")
        before = await one.ask(customer)
        assert before is not None
        assert before.cold_start
        assert before.as_of is None
        assert {item.source for item in before.items} == {"popular"}

        # Its staple every week and one shoe more, as the shoe camp of the tiny shop buys.
        bought = [
            purchase(customer, article_number("shoe", n), PRESENT - timedelta(days=7 * week))
            for week in range(1, 5)
            for n in (0, week)
        ]
        await one.buy(bought)
        assert await applied_events(settings, bought) == len(bought)
        latest = purchase(customer, article_number("shoe", 5), PRESENT - timedelta(minutes=1))
        assert await one.buy_and_see(latest)
        after = await one.ask(customer)
        assert after is not None
    assert not after.cold_start
    assert after.as_of == latest.occurred_at
    assert after.items[0].article_id == article_number("shoe", 0)
    assert "repurchase" in after.items[0].source
    assert after.bundle_id == before.bundle_id


async def test_a_purchase_redelivered_is_counted_once(settings: Settings, tiny: Tiny) -> None:
    event = purchase("twice", article_number("top", 0), PRESENT - timedelta(hours=1))
    async with client(settings) as one:
        await one.buy([event, event, event])
        assert await applied_events(settings, [event]) == 1
        marker = purchase("twice", article_number("top", 1), PRESENT - timedelta(minutes=1))
        assert await one.buy_and_see(marker)
    store = await open_store(settings.redis)
    try:
        (stored,) = await store.load(["twice"])
    finally:
        await store.close()
    assert stored is not None
    assert len(stored.state) == 2
    # What the live worker stored is what anyone encodes from the same state, in the space of the same bundle.
    assert stored.space == tiny.bundle_id
    assert stored.embedding is not None
    assert stored.embedding.tobytes() == tiny.runtime.encoder.encode([stored.state])[0].tobytes()


async def test_rubbish_goes_to_dead_letters_and_the_worker_goes_on(settings: Settings) -> None:
    before = await count_messages(settings, DEAD_LETTERS)
    good = purchase("after-rubbish", article_number("top", 2), PRESENT - timedelta(minutes=2))
    async with Producer(settings.kafka) as producer:
        await producer.send(TRANSACTIONS, b"after-rubbish", b"{not json")
        await producer.send(TRANSACTIONS, b"after-rubbish", b'{"event_id":"1","type":"returned"}')
    async with client(settings) as one:
        assert await one.buy_and_see(good)
    assert await count_messages(settings, DEAD_LETTERS) == before + 2


async def test_every_request_gets_one_answer_or_an_error(settings: Settings) -> None:
    run = uuid.uuid4().hex[:8]
    requests = [
        b'{"request_id":"%s-good","customer_id":"customer-00","k":3}' % run.encode(),
        b'{"request_id":"%s-k","customer_id":"customer-00","k":0}' % run.encode(),
        b'{"request_id":"%s-strategy","customer_id":"customer-00","strategy":"magic"}' % run.encode(),
    ]
    consumer = BatchConsumer(settings.kafka, [RECOMMENDATIONS], batch_size=500, from_beginning=False)
    answers: dict[str, list[Recommendations]] = {}
    async with consumer, Producer(settings.kafka) as producer:
        while not consumer.assignment:
            await consumer.getmany(timeout_ms=200)
        await producer.send_many((REQUESTS, b"customer-00", raw) for raw in requests)
        until = time.monotonic() + 20
        while sum(map(len, answers.values())) < 3 and time.monotonic() < until:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    answer = msgspec.json.decode(record.value, type=Recommendations)
                    if answer.request_id.startswith(run):
                        answers.setdefault(answer.request_id, []).append(answer)
    assert {key.removeprefix(f"{run}-"): len(found) for key, found in answers.items()} == {
        "good": 1,
        "k": 1,
        "strategy": 1,
    }
    (good,), (k,), (strategy,) = (answers[f"{run}-{name}"] for name in ("good", "k", "strategy"))
    assert len(good.items) == 3
    assert k.error is not None
    assert "k" in k.error.message
    assert strategy.error is not None
    assert ", ".join(STRATEGIES) in strategy.error.message
