"""Everything that talks to something outside the process."""
