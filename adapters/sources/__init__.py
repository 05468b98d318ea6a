"""Where files of imports come from."""
