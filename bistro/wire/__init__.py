"""Values to bytes and back, strictly: one value has one encoding, anything else is malformed."""
