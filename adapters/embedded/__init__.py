"""Real PostgreSQL and Valkey out of wheels, for every way to run that names no URL."""
