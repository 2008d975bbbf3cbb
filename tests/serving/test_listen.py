"""Where the gateway listens: alone, or on one port with others."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from infra.errors import ConfigurationError, PortTaken
from serving.cli import listen

HOST = "127.0.0.1"


@contextmanager
def two_on_one_port() -> Iterator[tuple[socket.socket, socket.socket]]:
    with listen(HOST, 0, share=True) as first, listen(HOST, first.getsockname()[1], share=True) as second:
        yield first, second


@pytest.mark.parametrize(("first", "second"), [(False, False), (False, True), (True, False)])
def test_a_port_is_for_one_unless_all_share_it(first: bool, second: bool) -> None:
    with listen(HOST, 0, share=first) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"cannot listen on {HOST}:{port} .*MODISTE_HTTP__PORT"):
            listen(HOST, port, share=second)


def test_a_shared_port_can_be_taken_again_at_once() -> None:
    """With a connection that its last owner closed still in the kernel's books."""
    with listen(HOST, 0, share=True) as last:
        last.listen()
        address = last.getsockname()
        with socket.create_connection(address) as client:
            last.accept()[0].close()
            assert client.recv(1) == b""
    listen(HOST, address[1], share=True).close()


def test_connections_go_to_each_of_those_who_share_a_port() -> None:
    with two_on_one_port() as pair, ExitStack() as stack:
        for one in pair:
            one.listen(128)
            one.setblocking(False)
        for _ in range(64):
            stack.enter_context(socket.create_connection(pair[0].getsockname()))
        taken = [0, 0]
        for place, one in enumerate(pair):
            while True:
                try:
                    stack.enter_context(one.accept()[0])
                except BlockingIOError:
                    break
                taken[place] += 1
        assert sum(taken) == 64
        assert min(taken) > 8, taken  # by hash: so few of 64 for one come once in 10^9 times


def test_nobody_is_sent_to_one_that_is_not_ready() -> None:
    """The second has the port and still loads its bundle: all connections go to the first."""
    with two_on_one_port() as (first, _), ExitStack() as stack:
        first.listen(128)
        first.settimeout(5)
        for _ in range(32):
            stack.enter_context(socket.create_connection(first.getsockname(), timeout=5))
            stack.enter_context(first.accept()[0])


def test_a_system_that_shares_no_ports_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ConfigurationError, match="share_port needs SO_REUSEPORT, which this system lacks"):
        listen(HOST, 0, share=True)
