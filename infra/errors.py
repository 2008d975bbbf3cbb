"""Every error Modiste raises on purpose.

    ModisteError
    ├── ConfigurationError      settings, flags, environment: fix and start again
    ├── DataError               a file or message is not what it must be (file, column, row)
    │   └── InvalidMessage      one message on a topic or in a request: dead-lettered, never fatal
    ├── BundleError             a bundle is corrupt, truncated, or of another format
    │   └── BundleNotFound      the channel or id points nowhere
    ├── GateError               a check or quality gate said no
    ├── PortTaken               something else listens where we must
    └── Unavailable             retryable: a server did not answer in time
        ├── BrokerUnavailable
        ├── RegistryUnavailable
        └── StoreUnavailable
            └── StoreConflict   another writer moved the value first; read again and retry

`retryable` tells the caller whether doing the same again can help; decide on it, not on the text.
`exit_code` is the command's: 1 a check said no, 2 wrong use or wrong input.
"""

from __future__ import annotations

from typing import ClassVar


class ModisteError(Exception):
    """Base of all errors with a message written for the person who reads it."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 2


class ConfigurationError(ModisteError):
    """A setting or flag is unknown, missing or out of range."""


class DataError(ModisteError):
    """Input data is not what it must be; says where."""

    def __init__(
        self, message: str, *, file: str | None = None, column: str | None = None, row: int | None = None
    ) -> None:
        place = ", ".join(
            f"{name} {value}" for name, value in (("file", file), ("column", column), ("row", row)) if value is not None
        )
        super().__init__(f"{place}: {message}" if place else message)
        self.reason = message
        self.file = file
        self.column = column
        self.row = row


class InvalidMessage(DataError):
    """One message cannot be understood; the stream goes on without it."""


class BundleError(ModisteError):
    """A bundle cannot be trusted; the one in use goes on serving."""


class BundleNotFound(BundleError):
    """No such channel or bundle in the registry."""


class GateError(ModisteError):
    """A check or quality gate said no."""

    exit_code = 1


class PortTaken(ModisteError):
    """Another process listens on a port we were told to use."""


class Unavailable(ModisteError):
    """A server did not answer; trying again can help."""

    retryable = True
    exit_code = 1


class BrokerUnavailable(Unavailable):
    """The Kafka broker did not answer."""


class RegistryUnavailable(Unavailable):
    """The place of the bundles did not answer."""


class StoreUnavailable(Unavailable):
    """The Redis server did not answer."""


class StoreConflict(StoreUnavailable):
    """A fenced write found a newer value; read it and fold again."""
