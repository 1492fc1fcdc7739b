"""Where session, codec, transport and the clock meet: `Pool`, and what it is made of."""

from mpccomm.pool.pool import Pool

__all__ = ["Pool"]
