"""Sections `http`, `page` and `api`: where the HTTP gateway listens, what it shows, and what it takes of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from infra.settings_section import Count, Milliseconds, Section


class HttpSettings(Section):
    """Where the HTTP gateway listens; with `share_port` others of the same user may listen there too, and the kernel
    (Linux, SO_REUSEPORT) gives each connection to one of them."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8_000
    share_port: bool = False


class PageSettings(Section):
    """The shop page: whether it is served, where pictures of articles lie, whether prices are shown and what stands
    before them, and whether its lists leave out what a customer has bought, until the page is told otherwise."""

    enabled: bool = True
    pictures: Path | None = None
    prices: bool = True
    currency: Annotated[str, Field(max_length=4)] = ""
    hide_bought: bool = False


class ApiSettings(Section):
    """Who may ask the HTTP gateway for what, how much and how often; an empty `keys` lets everybody in.

    keys: `NAME:SCOPES:SHA256` each, apart by spaces, commas or new lines (`modiste serving keys new` prints one) ·
    requests_per_s: of one key or address, None without limit; `burst` at once · body_timeout_ms: until a body must have
    arrived whole · cors_origins: pages of other origins that may call us · explain_s, explain_bytes: how long and how
    many answers can be explained afterwards.
    """

    keys: str = ""
    requests_per_s: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = None
    burst: Count = 50
    max_body_bytes: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000_000
    body_timeout_ms: Milliseconds = 30_000
    cors_origins: str = ""
    explain_s: Annotated[int, Field(ge=1, le=86_400)] = 900
    explain_bytes: Annotated[int, Field(ge=0, le=10_000_000_000)] = 16_000_000
