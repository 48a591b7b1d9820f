"""Rules and state machines: values in, values out; no I/O, clock or randomness of their own."""
