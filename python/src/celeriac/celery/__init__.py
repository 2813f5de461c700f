"""Runs an existing Celery app on a Celeriac broker: `transport` for kombu, and `backend` for the
results. Nothing here is imported before Celery or kombu asks for it."""
