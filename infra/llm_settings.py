"""Section `llm`: the endpoint of a language model, and how long and how often it is asked."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from infra.settings_section import Count, Milliseconds, Secret, Section, check_scheme


def _endpoint(url: str) -> str:
    check_scheme(url, ("http", "https"))
    try:
        parts = urlsplit(url)
        sound = bool(parts.hostname) and parts.port != 0 and not (parts.query or parts.fragment)
    except ValueError:
        sound = False
    if not sound:
        raise ValueError("write https://host[:port][/path], as in https://api.example.com/v1")
    if "@" in parts.netloc:
        raise ValueError("a user and password have no place in it; set llm.api_key or llm.api_key_file")
    return url.rstrip("/")


def _near(url: str) -> bool:
    """Whether the host is on this machine or a network of one's own: a private address, a name that is not of the
    internet."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".localhost", ".local", ".internal", ".lan", ".home.arpa"))


class LlmSettings(Section):
    """A language model behind an OpenAI-compatible endpoint, which orders the best of an answer and says why
    (`serving.llm`); off without `url`. Tokens are counted as one a byte, which no tokenizer exceeds."""

    url: Annotated[str, AfterValidator(_endpoint)] | None = Field(default=None, repr=False)
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    api_key: Secret | None = None
    api_key_file: Path | None = None
    rerank: Literal["asked", "always"] = "asked"
    top_n: Annotated[int, Field(ge=2, le=50)] = 12
    # Less than a responder that stops, or loses partitions, gives what is under way (3 s where a session has 6): an
    # answer that waited longer would be given again by the process that comes after it.
    wait_ms: Annotated[int, Field(ge=1, le=2_500)] = 800
    deadline_ms: Milliseconds = 5_000
    prompt_tokens: Annotated[int, Field(ge=2_000, le=1_000_000)] = 8_000
    answer_tokens: Annotated[int, Field(ge=16, le=100_000)] = 1_000
    answer_tokens_as: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    output: Literal["json_schema", "json_object"] = "json_schema"
    concurrency: Annotated[int, Field(ge=1, le=1_000)] = 8
    cache_answers: Count = 10_000
    cache_ttl_ms: Annotated[int, Field(ge=1, le=86_400_000)] = 600_000
    pause_after: Annotated[int, Field(ge=1, le=1_000)] = 5
    pause_ms: Milliseconds = 10_000

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is not None and self.model is None:
            raise ValueError("url needs model, the name by which the endpoint knows it")
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("give api_key or api_key_file, not both")
        keyed = self.api_key is not None or self.api_key_file is not None
        if keyed and self.url is not None and self.url.startswith("http://") and not _near(self.url):
            raise ValueError("the key would cross the internet in the clear; write https:// in url")
        return self
