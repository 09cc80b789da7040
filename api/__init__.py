"""Every door: HTTP, the command line and the clock; the composition root."""
