"""Speaker verification with α-divergence losses."""

__version__ = "0.1.0"
