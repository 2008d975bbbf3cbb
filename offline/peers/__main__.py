"""`python -m offline.peers NAME`: one peer as a process, with the settings of its environment, until SIGTERM."""

from __future__ import annotations

import asyncio
import sys

from infra.errors import ConfigurationError
from infra.settings import Settings, load_settings
from offline.peers.work import open_work


def run(name: str, settings: Settings) -> None:
    """Consume for ever.

    Raises:
        ConfigurationError: no such peer.
    """
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    if name == "aiokafka":
        from offline.peers.loops import aiokafka_loop

        loop.run_until_complete(aiokafka_loop(settings))
    elif name == "confluent":
        from offline.peers.loops import confluent_loop

        confluent_loop(settings, open_work(settings, loop))
    elif name == "quixstreams":
        from offline.peers.quix import quix_app

        quix_app(settings, open_work(settings, loop)).run()
    elif name == "faust_take":
        from offline.peers.agents import run_faust_take

        run_faust_take(settings, loop)
    else:
        raise ConfigurationError(f"no peer {name!r}; there are aiokafka, confluent, quixstreams, faust_take")


if __name__ == "__main__":
    run(sys.argv[1], load_settings())
