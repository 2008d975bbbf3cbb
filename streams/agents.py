"""The Faust side: hot topics reach an agent as whole batches on a channel; offsets commit when a batch is
durable.

    broker -> BatchFeed (a Faust service around `streams.intake`) -> channel (bounded) -> agent -> handler

Faust's own per-message path would cost five times as much and would mark a failed message as done. Here a
batch is done only when the handler has returned; a handler that reports Unavailable is asked again for as
long as it takes, and the full channel stops the reading meanwhile; any other error ends the process without a
commit, so nothing is lost. A handler may put a part of a batch off (`Later`): the next batch is handled meanwhile, and
no offset from this one on is committed before that part is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol, cast

import faust
from aiokafka.errors import KafkaError
from faust.app.base import BootStrategy
from faust.channels import Channel
from mode import Service
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from infra.clock import Clock
from infra.errors import Unavailable
from infra.kafka import backoff_s
from infra.kafka_group import GroupConsumer
from infra.kafka_probe import unread
from infra.kafka_security import bootstrap_servers, client_arguments, why_away
from infra.settings import KafkaSettings, Settings
from streams.batches import Batch
from streams.intake import Intake, Limits
from streams.processor import RawMessage
from streams.topics import BUNDLES
from streams.worker import TOPICS, FoldWorker

logger = logging.getLogger(__name__)

# The library's own lines of our services ("Starting...") go where its others go.
_engine = logging.getLogger("faust.app")

# Less than the ten seconds that supervisors commonly leave between SIGTERM and SIGKILL.
DRAIN_LIMIT_S = 6.0
HOOK_S = 3.0
# A hundred times what the largest batch takes on a slow machine.
HANDLER_LIMIT_S = 300.0

Hook = Callable[[], Awaitable[None]]
BundleHook = Callable[[bytes], Awaitable[None]]
Later = Callable[[], Awaitable[None]]
"""The rest of a batch: returns when its effects are durable; raises Unavailable to be called again."""


class Handler(Protocol):
    """Takes a batch, in order within each partition, and returns when its effects are durable; or, with the rest of
    them to do, when those of all else are.

    Raises Unavailable to be given the same batch again (it must stand that); any other error ends the
    process.
    """

    async def __call__(self, messages: list[RawMessage]) -> Later | None: ...


class BatchChannel(Channel[Any]):
    """A channel whose queue Faust never empties.

    Faust clears its own queues whenever its control consumer rebalances or stops. Our batches come from
    another consumer, and one thrown away would stay uncommitted in the middle of its partition.
    """

    @property
    def queue(self) -> ThrowableQueue[Any]:
        if self._queue is None:
            self._queue = ThrowableQueue(maxsize=self.maxsize, flow_control=FlowControlEvent(initially_suspended=False))
        return self._queue


class BatchFeed(Service):
    """The intake as a Faust service: starts and stops with the app, reads into the channel.

    Reads no further than the channel holds, so a slow handler costs no memory.
    """

    logger = _engine

    def __init__(self, intake: Intake, *, on_start: Hook | None, on_stop: Hook | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._intake = intake
        self._hooks = (on_start, on_stop)
        self._opened = False
        self._prepared = asyncio.Event()

    async def on_start(self) -> None:
        start, _ = self._hooks
        # Before the hook: a signal may come in the middle of it, and what it has opened by then must be closed.
        self._opened = True
        try:
            if start is not None:
                await start()
        finally:
            self._prepared.set()
        # Stopped meanwhile: joining the group now would only have to be waited for.
        if not self.should_stop:
            await self._intake.start()

    async def on_stop(self) -> None:
        """Finish what is in flight, commit it, leave the group."""
        try:
            if self._opened:
                # Closing under a start hook that still opens would leave the rest of it open.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._prepared.wait(), HOOK_S)
                await self._intake.stop()
        finally:
            _, stop = self._hooks
            if stop is not None and self._opened:
                await stop()

    @Service.task
    async def _read(self) -> None:
        await self._intake.read()

    @Service.task
    async def _commit(self) -> None:
        await self._intake.commit_finished()


def build_batch_app(
    *,
    name: str,
    settings: Settings,
    topics: Sequence[str],
    group: str,
    batch_size: int,
    handler: Handler,
    on_start: Hook | None = None,
    on_stop: Hook | None = None,
    on_bundle: BundleHook | None = None,
    queue_batches: int = 8,
) -> faust.App:
    """A Faust app whose one hot agent hands whole batches of `topics` to `handler`.

    Args:
        name: what the process is called in logs.
        group: the consumer group of the hot topics; processes of one group share their partitions.
        batch_size: most messages a batch. queue_batches: most batches read ahead of the handler.
        on_start: awaited before the first message; its errors end the process.
        on_stop: awaited after the last commit, also when on_start was interrupted or failed half-way.
        on_bundle: awaited with the value of every message of the control topic `bundles`, in every process;
            Unavailable and errors in it are logged and do not end the process.

    Raises:
        ConfigurationError: the settings name no broker.
    """
    kafka = settings.kafka
    session_s = kafka.session_timeout_ms / 1_000
    # A group of its own for each process: every one must hear of a new bundle, not one of them.
    app = _App(
        f"{name}-{uuid.uuid4().hex[:12]}",
        broker=[f"kafka://{server}" for server in bootstrap_servers(kafka.url).split(",")],
        broker_credentials=_credentials(kafka),
        store="memory://",
        value_serializer="raw",
        key_serializer="raw",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_session_timeout=session_s,
        broker_request_timeout=max(kafka.request_timeout_ms / 1_000, session_s),
        broker_heartbeat_interval=max(0.2, min(3.0, session_s / 5)),
        broker_max_poll_interval=3_600.0,
        consumer_auto_offset_reset="earliest",
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )
    app.kafka = kafka
    channel = BatchChannel(app, maxsize=queue_batches)
    resting: set[asyncio.Task[Later | None]] = set()

    async def hand_over(batch: Batch) -> None:
        await channel.put(cast(Any, batch))

    intake = Intake(
        lambda listener: GroupConsumer(kafka, topics, group, listener, batch_size=batch_size),
        hand_over,
        partial(unread, kafka),
        Limits(min(session_s / 2, DRAIN_LIMIT_S), kafka.stall_timeout_ms / 1_000, batch_size),
    )

    class Boot(BootStrategy):
        """Starts the feed beside Faust's control consumer, not after it: joining a group takes seconds."""

        def server(self) -> Iterable[Any]:
            # Last to start, first to stop: the agent outlives the feed that drains through it.
            feed = BatchFeed(intake, on_start=on_start, on_stop=on_stop, loop=app.loop, beacon=app.beacon)
            return [*super().server(), feed]

    app.boot_strategy = Boot(app)

    async def finish(batch: Batch, work: Callable[[], Awaitable[Later | None]]) -> Later | None:
        """Do the work for the batch, and say so unless there is more of it."""
        later: Later | None = None
        ok = False
        try:
            later = await _until_taken(work)
            ok = True
        except Exception as error:
            logger.exception("%s: a batch of %d messages failed", name, len(batch))
            await app.crash(error)
        finally:
            if later is None:
                intake.finished(batch, ok=ok)
        return later

    @app.agent(channel, name=f"{name}.batches", concurrency=1)
    async def batches(stream: Any) -> None:
        async for batch in stream:
            later = await finish(batch, partial(handler, batch.take()))
            if later is not None:
                rest = asyncio.create_task(finish(batch, later), name=f"{name}.rest")
                resting.add(rest)
                rest.add_done_callback(resting.discard)

    @app.agent(app.topic(BUNDLES, value_serializer="raw"), name=f"{name}.bundles")
    async def bundles(stream: Any) -> None:
        async for value in stream:
            if on_bundle is not None and value:
                try:
                    await on_bundle(bytes(value))
                except Exception:
                    logger.exception("%s: message on %s had no effect", name, BUNDLES)

    return app


def _credentials(kafka: KafkaSettings) -> Any:
    """The arguments of every other client, as Faust takes them; None for plaintext."""
    given = client_arguments(kafka)
    context = given.get("ssl_context")
    if kafka.uses_sasl:
        return faust.SASLCredentials(
            username=given["sasl_plain_username"],
            password=given["sasl_plain_password"],
            mechanism=given["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


async def _until_taken(work: Callable[[], Awaitable[Later | None]]) -> Later | None:
    """Do the work again and again while a server is away."""
    attempt = 0
    while True:
        try:
            later = await _in_time(work)
            if attempt:
                logger.info("going on after %d tries", attempt + 1)
            return later
        except Unavailable as error:
            pause = backoff_s(attempt, base_s=0.2)
            attempt += 1
            logger.warning("paused, trying again in %.1f s (nothing is lost): %s", pause, error)
            await asyncio.sleep(pause)


async def _in_time(work: Callable[[], Awaitable[Later | None]]) -> Later | None:
    """A handler that never returns would stop the worker without a word; this one ends the process with one."""
    working = asyncio.timeout(HANDLER_LIMIT_S)
    try:
        async with working:
            return await work()
    except TimeoutError as error:
        if working.expired():
            raise RuntimeError(f"the handler did not return within {HANDLER_LIMIT_S:.0f} s") from error
        raise


class _App(faust.App):
    """A Faust app without the directories it would make for tables; nothing of ours is kept in one."""

    logger = _engine
    kafka: KafkaSettings

    async def on_first_start(self) -> None:
        return None


class _Worker(faust.Worker):
    """A Faust worker that leaves logging to the command and prints nothing on stdout."""

    def _setup_logging(self) -> None:
        self.spinner = None

    def run(self) -> Exception | None:
        """Run until a signal or an error, stop everything and close the loop; returns the error."""
        failure: Exception | None = None
        self._starting_fut = asyncio.ensure_future(self.start(), loop=self.loop)
        try:
            self.loop.run_until_complete(self._starting_fut)
        except asyncio.CancelledError:
            logger.debug("stopped by a signal")
        except Exception as error:
            failure = error
        try:
            self.stop_and_shutdown()
        except Exception as error:  # raised again by the library: the reason of a crash inside the app
            failure = failure or error
        return failure


def run_app(app: faust.App, loglevel: str = "INFO") -> None:
    """Run a Faust app in this process until SIGTERM or SIGINT; then drain, commit, leave the group.

    Returns after a signal. Logging is set up by the caller; Faust's and aiokafka's own lines are shown from
    WARNING on, and all of them with DEBUG.

    Raises:
        ConfigurationError, BrokerUnavailable: Faust itself gave up on the broker, and why.
        Exception: what on_start, the handler or Faust itself raised and ended the process with.
    """
    if loglevel.upper() != "DEBUG":
        for noisy in ("faust", "mode", "aiokafka"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    failure = _Worker(app, loglevel=loglevel, loop=loop, quiet=True).run()
    asyncio.set_event_loop(None)
    if isinstance(failure, KafkaError):
        raise asyncio.run(why_away(cast(_App, app).kafka, failure)) from failure
    if failure is not None:
        raise failure


def build_app(settings: Settings, *, clock: Clock | None = None) -> faust.App:
    """The folding worker as a Faust app: `transactions` into the store, tables of others looked through; offsets after
    Redis and dead letters.

    Raises:
        ConfigurationError: the settings name no broker.
    """
    worker = FoldWorker(settings, clock=clock)
    return build_batch_app(
        name="worker",
        settings=settings,
        topics=list(TOPICS),
        group=settings.worker.group,
        batch_size=settings.worker.batch_size,
        queue_batches=settings.worker.queue_batches,
        handler=worker,
        on_start=worker.start,
        on_stop=worker.stop,
        on_bundle=worker.reload,
    )
