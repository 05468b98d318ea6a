"""User accounts: registering, updating, changing status, erasing."""
