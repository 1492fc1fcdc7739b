"""``tno.mpc.communication.httphandlers``."""

from __future__ import annotations

import logging

from mpccomm.engine.handlers import Handler, ServerHandle

HTTPClient = Handler
HTTPServer = ServerHandle

logger = logging.getLogger("mpccomm")

__all__ = ["HTTPClient", "HTTPServer", "logger"]
