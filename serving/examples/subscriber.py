"""Prints new recommendations as they come: python serving/examples/subscriber.py localhost:19092 [CUSTOMER]

Who gets them says `modiste serving subscribe CUSTOMER`. Needs aiokafka, nothing of Modiste.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict

from aiokafka import AIOKafkaConsumer

REMEMBERED = 10_000


async def main(servers: str, customer_id: str | None) -> None:
    # Without a group every subscriber hears everything. With a group_id, several of them share the customers.
    consumer = AIOKafkaConsumer("recommendations", bootstrap_servers=servers, auto_offset_reset="latest")
    await consumer.start()
    print("listening", flush=True)
    seen: OrderedDict[str, None] = OrderedDict()
    try:
        async for record in consumer:
            answer = json.loads(record.value)
            if answer.get("trigger") != "feed" or customer_id not in (None, answer["customer_id"]):
                continue
            # A message may come twice, with the same request_id.
            if answer["request_id"] in seen:
                continue
            seen[answer["request_id"]] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
            articles = [item["article_id"] for item in answer["items"]]
            print(answer["customer_id"], answer.get("as_of"), *articles, flush=True)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1], sys.argv[2] if len(sys.argv) == 3 else None))
