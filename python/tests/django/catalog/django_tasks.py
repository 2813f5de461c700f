"""The tasks for `django.tasks`, which older versions of Django do not have."""

from __future__ import annotations

from django.tasks import task


class OutOfStock(Exception):
    pass


@task
def price(title: str, tax: float = 0.0) -> dict[str, object]:
    return {"title": title, "price": 10 + tax}


@task
async def slow_price(title: str) -> str:
    return title[::-1]


@task
def order(title: str) -> None:
    raise OutOfStock(f"{title} is out of stock")


@task(takes_context=True)
def attempt(context, least: int) -> int:
    if context.attempt < least:
        raise OutOfStock("not yet")
    return context.attempt


@task(backend="patient")
def unused() -> None:
    """Its backend allows three attempts."""


patient = attempt.using(backend="patient")
