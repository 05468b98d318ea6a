"""Speed beside peers and limits, as ratios measured in one run: `python -m benchmarks`."""
