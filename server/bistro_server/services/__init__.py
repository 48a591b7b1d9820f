"""What the server does: each service drives the rules of ``bistro.protocol`` and holds none."""
