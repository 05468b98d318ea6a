"""What becomes of speed as the ledger grows: `python -m benchmarks.growth`."""
