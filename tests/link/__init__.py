"""A filer on a thin line: how long after sealing is it on time? See docs/reference/thin-line.md."""
