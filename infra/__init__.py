"""How it is kept: the log and its writer, the database, tokens, keys and settings."""
