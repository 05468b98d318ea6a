"""Files of rows, as they come."""
