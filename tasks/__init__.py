"""The Celery tasks: one for each job kind."""
