"""``tno.mpc.communication.test``: the part of it that other packages' tests import."""
