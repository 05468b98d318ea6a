"""PostgreSQL: the schema, the repositories, the ledger and the unit of work."""
