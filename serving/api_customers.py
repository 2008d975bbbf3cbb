"""HTTP routes of customers: who is known, and what is known of one."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BeforeValidator

from serving.api_gateway import HISTORY_SHOWN, SAMPLE_MAX
from serving.api_routes import ASKED, CustomerId, Needs
from serving.api_schemas import Customers, CustomerView, History

HISTORY_MAX = 1_000


def _date_time(given: str) -> str:
    # Pydantic would take a bare number for seconds since 1970.
    if not re.match(r"\d{4}-", given):
        raise ValueError("write a date and time with its zone, as 2017-12-24T10:01:00Z")
    return given


Moment = Annotated[AwareDatetime, BeforeValidator(_date_time)]

router = APIRouter(tags=["customers"], responses=ASKED)


@router.get("/v1/customers", summary="Some customers that are known")
async def customers(gateway: Needs, limit: Annotated[int, Query(ge=1, le=SAMPLE_MAX)] = 30) -> Customers:
    """Ids in no particular order."""
    return Customers(customer_ids=await gateway.store.customer_ids(limit))


@router.get("/v1/customers/{customer_id}", summary="What is known of a customer")
async def customer(
    customer_id: CustomerId, gateway: Needs, limit: Annotated[int, Query(ge=0, le=HISTORY_MAX)] = HISTORY_SHOWN
) -> CustomerView:
    """Totals, profile and recent history with titles. Any id is answered: a customer never seen has none yet."""
    return CustomerView.model_validate(await gateway.customer(customer_id, limit))


@router.get("/v1/customers/{customer_id}/history", summary="A customer's events, newest first")
async def history(
    customer_id: CustomerId,
    gateway: Needs,
    limit: Annotated[int, Query(ge=1, le=HISTORY_MAX)] = HISTORY_SHOWN,
    type: Annotated[Literal["purchase", "view", "cart"] | None, Query(description="only events of this type")] = None,
    before: Annotated[Moment | None, Query(description="only events earlier than this")] = None,
) -> History:
    """As far back as events are remembered one by one. Of events at the very same moment a page may end between two:
    then the next one misses the rest of them."""
    return History.model_validate(await gateway.history(customer_id, limit, type=type, before=before))
