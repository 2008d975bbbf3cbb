"""Uploads over a real socket by somebody who means harm: each gets a clear no, the gateway reads no more than it must,
and the next one is served.
"""

from __future__ import annotations

import contextlib
import json
import select
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from infra.settings import ApiSettings, Settings
from serving.api import build_api
from serving.api_search import MAX_IMAGE_BYTES
from tests.serving.test_api import Shop
from tests.serving.test_api_search import SearchedSource
from tests.serving.test_image_decode import enlarged, halves, png_of, progressive, saved
from tests.support.http_shop import served

IMAGE = "/v1/search/image"
JPEG = saved(Image.effect_noise((400, 400), 80), "JPEG")

HOSTILE: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 422, "the file is empty"),
    "a bomb: 3,600 million pixels in 300 bytes": (png_of(60_000, 60_000, 1), 413, "more pixels than"),
    "a bomb: 30 million pixels": (png_of(6_000, 5_000, 1), 413, "6000 x 5000 pixels; at most 25000000 are allowed"),
    "a photo larger than a phone's": (enlarged(JPEG, 9_000, 9_000), 413, "9000 x 9000 pixels; at most 50000000"),
    "a strip": (png_of(4_000, 10, 10), 413, "the longer side is at most 20 times the shorter"),
    "a bomb of scans": (progressive(400), 413, "more than 64 scans"),
    "a JPEG cut short": (JPEG[: len(JPEG) // 2], 422, "damaged or cut short"),
    "a PNG cut short": (saved(halves())[:60], 422, "damaged or cut short"),
    "a head and no picture": (b"\xff\xd8\xff" + b"\0" * 100, 422, "begins as a picture and is none"),
    "a GIF": (saved(halves(), "GIF"), 415, "no JPEG, PNG or WebP; the file begins 47 49 46"),
    "a TIFF": (saved(halves(), "TIFF"), 415, "no JPEG, PNG or WebP"),
    "an SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "no JPEG, PNG or WebP"),
    "a PDF": (b"%PDF-1.7 " * 100, 415, "no JPEG, PNG or WebP"),
    "a program": (b"MZ" + b"\0" * 500, 415, "no JPEG, PNG or WebP"),
}


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(source=SearchedSource())


@pytest.fixture(scope="module")
def url(shop: Shop) -> Iterator[str]:
    with served(build_api(Settings(), shop.opened)) as url:
        yield url


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_its_reason(url: str, name: str) -> None:
    content, status, said = HOSTILE[name]
    for sent in ({"content": content}, {"files": {"image": ("photo.jpg", content, "image/jpeg")}}):
        answer = httpx.post(url + IMAGE, timeout=60, **sent)  # type: ignore[arg-type]
        assert answer.status_code == status, answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert said in answer.json()["detail"]


def test_odd_but_sound_photos_are_looked_at(url: str, shop: Shop) -> None:
    """Colours of print; taken with the camera held upright, as its EXIF says."""
    turned = Image.Exif()
    turned[0x0112] = 6
    for content in (saved(halves("CMYK"), "JPEG"), saved(halves(), "JPEG", exif=turned)):
        assert httpx.post(url + IMAGE, content=content, timeout=60).status_code == 200
    assert isinstance(shop.source, SearchedSource)
    assert [asked[-1] for asked in shop.source.searcher.asked[-2:]] == [(40, 20), (20, 40)]


def connected(url: str, *head: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port), timeout=60)
    connection.sendall("\r\n".join([f"POST {IMAGE} HTTP/1.1", "Host: shop", *head, "", ""]).encode())
    return connection


def answered(connection: socket.socket, within_s: float = 0) -> bool:
    return bool(select.select([connection], [], [], within_s)[0])


def told(connection: socket.socket) -> tuple[int, dict[str, object]]:
    """Status and problem; to the end of the connection, which the gateway closes."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65_536):
            said += part
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"connection: close" in head.lower()
    return int(head.split()[1]), json.loads(body)


def test_of_fifty_megabytes_no_more_is_read_than_may_come(url: str) -> None:
    """No length is declared, so they have to be counted."""
    part = b"10000\r\n" + b"\0" * 65_536 + b"\r\n"
    sent = 0
    with connected(url, "Transfer-Encoding: chunked") as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while sent < 50_000_000 and not answered(connection):
                connection.sendall(part)
                sent += 65_536
        status, problem = told(connection)
    assert (status, problem["allowed_bytes"]) == (413, MAX_IMAGE_BYTES + 16_384)
    assert sent < 2 * MAX_IMAGE_BYTES  # what the sockets' buffers hold is sent and never read


def test_a_length_over_the_limit_is_refused_before_anything_comes(url: str) -> None:
    with connected(url, "Content-Length: 50000000") as connection:
        status, problem = told(connection)
    assert (status, problem["given_bytes"]) == (413, 50_000_000)


def test_who_sends_bit_by_bit_is_given_up_and_holds_up_nobody(shop: Shop) -> None:
    app = build_api(Settings(api=ApiSettings(body_timeout_ms=500)), shop.opened)
    with served(app) as url, connected(url, "Content-Length: 1000000") as connection:
        assert httpx.post(url + IMAGE, content=saved(halves()), timeout=60).status_code == 200
        while not answered(connection, 0.02):
            connection.sendall(b"x")  # it would take five hours
        status, problem = told(connection)
    assert (status, problem["title"], problem["allowed_s"], problem["retryable"]) == (408, "Request Timeout", 0.5, True)
