"""Puts the relay together from its settings, and runs it."""
