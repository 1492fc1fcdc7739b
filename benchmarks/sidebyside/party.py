"""One process of a run: ``python -m sidebyside.party CONTENDER``. Takes orders as lines of JSON, answers in the same way."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from typing import Any

from sidebyside.contenders import CONTENDERS
from sidebyside.contenders.base import Contender, Place, UnavailableError
from sidebyside.works import works


async def serve(contender: Contender) -> None:
    """Carry out orders until the input ends."""
    me = 0
    while line := await _next_line(contender.blocking):
        order: dict[str, Any] = json.loads(line)
        answer: Any = None
        match order.pop("do"):
            case "listen":
                place = Place(**order)
                me = place.me
                try:
                    await contender.listen(place)
                except UnavailableError as error:
                    answer = str(error)
            case "connect":
                await contender.connect()
            case "work":
                work = works(order["scale"])[order["name"]]
                answer = await (work.follow(contender) if me else work.lead(contender))
            case "close":
                await contender.close()
        print(json.dumps(answer), flush=True)


async def _next_line(blocking: bool) -> str:
    if blocking:
        return sys.stdin.readline()
    # Acknowledgements of the last work may still be on their way: the loop has to run on.
    return await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


def run_without_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("a blocking contender waited")


def main() -> None:
    entry = CONTENDERS[sys.argv[1]]
    contender = entry.make()
    if contender.blocking:
        run_without_loop(serve(contender))
    elif entry.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(contender))
    else:
        asyncio.run(serve(contender))


if __name__ == "__main__":
    main()
