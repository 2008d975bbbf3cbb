"""The base of every branch of the settings tree, and the kinds of values that several of them have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, SecretStr

Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
User = Annotated[str, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]


class Section(BaseModel):
    """Base of the tree's branches: frozen, no key but the ones named, and no value in a library's error text."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, hide_input_in_errors=True)


def check_scheme(url: str, allowed: tuple[str, ...]) -> str:
    """The scheme of `url`.

    Raises:
        ValueError: it is none of those allowed.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in allowed:
        raise ValueError(f"the URL must begin with one of {', '.join(f'{name}://' for name in allowed)}")
    return scheme
