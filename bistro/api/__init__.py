"""What both sides of an HTTP request share: routes, media types, problems, signatures."""
