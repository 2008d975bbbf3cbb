"""Callers decide on `retryable` and `exit_code`, never on an error's text."""

from __future__ import annotations

import pytest

from infra import errors
from infra.errors import (
    BrokerUnavailable,
    BundleError,
    BundleNotFound,
    ConfigurationError,
    DataError,
    GateError,
    InvalidMessage,
    ModisteError,
    PortTaken,
    StoreConflict,
    StoreUnavailable,
)


@pytest.mark.parametrize(
    ("kind", "retryable", "exit_code"),
    [
        (ConfigurationError, False, 2),
        (DataError, False, 2),
        (InvalidMessage, False, 2),
        (BundleError, False, 2),
        (BundleNotFound, False, 2),
        (PortTaken, False, 2),
        (GateError, False, 1),
        (BrokerUnavailable, True, 1),
        (StoreUnavailable, True, 1),
        (StoreConflict, True, 1),
    ],
)
def test_each_error_says_whether_to_retry_and_how_a_command_ends(
    kind: type[ModisteError], retryable: bool, exit_code: int
) -> None:
    error = kind("what happened")
    assert (error.retryable, error.exit_code, str(error)) == (retryable, exit_code, "what happened")


def test_data_error_says_where() -> None:
    error = DataError("price -1 is negative", file="t.csv", column="price", row=3)
    assert str(error) == "file t.csv, column price, row 3: price -1 is negative"
    assert (error.reason, error.file, error.column, error.row) == (
        "price -1 is negative",
        "t.csv",
        "price",
        3,
    )


def test_row_zero_is_a_place() -> None:
    assert str(DataError("empty", row=0)) == "row 0: empty"


def test_the_docstring_draws_every_error() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert {name for name in defined if name not in (errors.__doc__ or "")} == set()
