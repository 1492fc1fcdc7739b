"""``tno.mpc.communication.test``: the part of it that other packages' tests import."""

from __future__ import annotations

from mpccomm.compat.test.pool_fixtures_http import event_loop as event_loop
