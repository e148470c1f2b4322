"""Write, search and score token by token."""
