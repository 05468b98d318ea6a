"""Jobs: what every unit of work is, how it runs and how its outcome is kept."""
