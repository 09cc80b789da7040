"""Pacing over whole flights: simulated, and with no database."""
