"""TLS in front of a server that was built without it (the embedded Valkey): a forwarder that terminates it.

Threads and blocking sockets, for asyncio drops the alert that tells a client why it is refused.
"""

from __future__ import annotations

import contextlib
import gc
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

HOST = "127.0.0.1"
TIMEOUT_S = 10.0
TICK_S = 0.2


@contextlib.contextmanager
def tls_front(behind: int, certificate: Path, key: Path, *, client_ca: Path | None = None) -> Iterator[int]:
    """The port it listens on; every connection is passed on, decrypted, to port `behind` of this machine.

    client_ca: clients must show a certificate of this authority.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    over = threading.Event()
    threads: list[threading.Thread] = []

    def accept(listener: socket.socket) -> None:
        while not over.is_set():
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                thread = threading.Thread(target=_serve, args=(connection, context, behind, over), daemon=True)
                threads.append(thread)
                thread.start()

    with socket.create_server((HOST, 0), backlog=64) as listener:
        listener.settimeout(TICK_S)
        accepting = threading.Thread(target=accept, args=(listener,), daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            for thread in (accepting, *threads):
                thread.join(TIMEOUT_S)


def _serve(connection: socket.socket, context: ssl.SSLContext, behind: int, over: threading.Event) -> None:
    connection.settimeout(TIMEOUT_S)
    # Handshakes that clients break off, and connections they leave, are what the tests are about.
    with (
        contextlib.suppress(OSError),
        connection,
        context.wrap_socket(connection, server_side=True) as front,
        socket.create_connection((HOST, behind), timeout=TIMEOUT_S) as back,
    ):
        while not over.is_set():
            ready = [front] if front.pending() else select.select([front, back], [], [], TICK_S)[0]
            for source in ready:
                data = source.recv(65_536)
                if not data:
                    return
                (back if source is front else front).sendall(data)


@contextlib.contextmanager
def silent_tls(certificate: Path, key: Path) -> Iterator[int]:
    """The port of a server that completes handshakes and then neither answers nor hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with contextlib.ExitStack() as held, socket.create_server((HOST, 0), backlog=64) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):  # the listener was shut down
                while True:
                    connection = held.enter_context(listener.accept()[0])
                    connection.settimeout(TIMEOUT_S)
                    with contextlib.suppress(OSError):  # a client that only asks whether we speak TLS
                        held.enter_context(context.wrap_socket(connection, server_side=True))

        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(TIMEOUT_S)


def connections_to(port: int) -> list[socket.socket]:
    """Sockets of this process that are connected to this port of this machine and not closed."""
    # By type(): proxies of what is gone, and objects that load when they are looked at, must not be asked.
    sockets = [it for it in gc.get_objects() if issubclass(type(it), socket.socket)]
    return [it for it in sockets if it.fileno() >= 0 and it.family == socket.AF_INET and _peer_port(it) == port]


def _peer_port(connection: socket.socket) -> int | None:
    try:
        return int(connection.getpeername()[1])
    except OSError:  # it listens, or was left by the other side
        return None
