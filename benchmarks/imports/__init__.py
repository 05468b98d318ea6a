"""Imports, measured beside the floor that PostgreSQL sets and the textbook's way."""
