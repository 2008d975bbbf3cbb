"""One call to an OpenAI-compatible endpoint (`POST {url}/chat/completions`), from which nothing is taken for granted.

Over aiohttp, which faust-streaming brings anyway. The `openai` package (3.54: 30 MB, 44 MiB of memory, half a second to
import) reads answers whole however large, follows redirects, tries again by itself and takes settings from OPENAI_*
variables; all of that would have to be turned off or around, for the sake of one POST.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from infra.credentials import api_key_of
from infra.settings import LlmSettings
from serving.llm_prompt import Question

MAX_ANSWER_BYTES = 262_144
_MAX_TOKENS = 10_000_000  # more than an endpoint can mean
_CHUNK = 16_384


class CallFailed(Exception):
    """The endpoint cannot be reached or did not answer as one. The text holds nothing of what it sent: that may be
    anything, our key included. retry_after_s: as it asks for."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Completion:
    """The text of the answer, and the tokens that the endpoint says it counted; 0 where it does not."""

    content: str
    prompt_tokens: int
    answer_tokens: int


class _Message(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Body(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Body)


class ChatClient:
    """Keeps connections open between calls; made where an event loop runs. Waits for ever: the caller limits it.

    Raises:
        ConfigurationError: the file of the key cannot be read.
    """

    def __init__(self, settings: LlmSettings) -> None:
        key = api_key_of(settings)
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "modiste"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        self._settings = settings
        self._url = f"{settings.url}/chat/completions"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=settings.concurrency),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def close(self) -> None:
        await self._session.close()

    async def complete(self, question: Question) -> Completion:
        """Ask once.

        Raises:
            CallFailed: no connection, a status but 200 (a redirect too), no JSON, too long, or no answer in it.
        """
        body = msgspec.json.encode(self._request(question))
        try:
            async with self._session.post(
                self._url, data=body, headers={"Content-Type": "application/json"}, allow_redirects=False
            ) as response:
                _check(response)
                raw = await _read(response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            # Its text may hold what the server sent.
            raise CallFailed(f"no answer ({type(error).__name__})") from None
        return _completion(raw)

    def _request(self, question: Question) -> dict[str, Any]:
        settings = self._settings
        form: dict[str, Any] = {"type": settings.output}
        if settings.output == "json_schema":
            form["json_schema"] = {"name": "order", "strict": True, "schema": question.schema}
        return {
            "model": settings.model,
            "messages": question.messages,
            "response_format": form,
            settings.answer_tokens_as: settings.answer_tokens,
            "stream": False,
        }


def _check(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        wait = None
        if response.status in (429, 503):
            with contextlib.suppress(ValueError):
                wait = max(0.0, float(response.headers.get("Retry-After", "")))
        raise CallFailed(f"status {response.status}", wait)
    kind = response.content_type
    if kind != "application/json" and not kind.endswith("+json"):
        raise CallFailed("an answer that is not application/json")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise CallFailed("a compressed answer, which was not asked for")


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body; one that grows beyond what an answer can be is not read to its end."""
    raw = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK):
        raw += chunk
        if len(raw) > MAX_ANSWER_BYTES:
            raise CallFailed(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(raw)


def _completion(raw: bytes) -> Completion:
    try:
        body = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise CallFailed(f"a body that is no chat completion ({type(error).__name__})") from None
    content = body.choices[0].message.content if body.choices else None
    if not content:
        raise CallFailed("a chat completion without content")
    usage = body.usage or _Usage()
    return Completion(content, _count(usage.prompt_tokens), _count(usage.completion_tokens))


def _count(tokens: int) -> int:
    return tokens if 0 <= tokens <= _MAX_TOKENS else 0
