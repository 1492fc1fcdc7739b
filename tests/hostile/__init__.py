"""What others can do to a pool, measured beside an honest pair: ``python -m tests.hostile``."""
