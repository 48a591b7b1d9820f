"""What every party of the Bistro protocol must agree on."""

__version__ = "0.1.0"
