"""What `kill -9` does to stock Celery and to Tallyman: `python -m benchmarks.deaths`."""
