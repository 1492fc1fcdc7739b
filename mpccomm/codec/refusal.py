"""A value that cannot be carried, and where it is."""

from __future__ import annotations


class Refusal(Exception):  # noqa: N818 -- it becomes an error when its path is complete
    """Why a value cannot be carried; collects the steps of the path to it, innermost first, on the way out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.steps: list[str] = []

    def __str__(self) -> str:
        steps = self.steps[::-1]
        if len(steps) > 16:
            steps[8:-8] = [" ... "]
        path = "message" + "".join(steps)
        return f"{path} {self.args[0]}"
