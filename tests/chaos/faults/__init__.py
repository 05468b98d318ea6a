"""What can be broken: a module for each part, a function for each fault."""
