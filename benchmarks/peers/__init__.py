"""Other queues at the same work, each used as its own documentation says."""
