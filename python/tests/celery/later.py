"""A task that a worker registers when its pool is restarted with this module."""

from celery import current_app


@current_app.task(name="registered.later")
def later():
    return "later"
