"""One configured HTTP session, and the typed clients of server and relay."""
