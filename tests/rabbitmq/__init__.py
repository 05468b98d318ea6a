"""Tallyman on a real RabbitMQ."""
