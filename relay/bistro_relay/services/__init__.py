"""What the relay does: checks claims, takes bytes in, keeps promises, hands fragments over."""
