"""The subject ``bistro-server serve``: its tickets and refusals are what must not be lost."""
