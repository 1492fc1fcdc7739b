"""The program of every party here: the largest of the parties' numbers, for want of a protocol."""

import secrets

from mpccomm import SyncPool

with SyncPool.from_env() as pool:
    pool.wait_ready(timeout=120)
    mine = secrets.randbelow(1000)
    largest = pool.group().reduce(mine, max, timeout=120)
    print(f"{pool.name}: mine is {mine}, the largest is {largest}", flush=True)
