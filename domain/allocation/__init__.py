"""Stock allocation: which order line is served from which batch."""
