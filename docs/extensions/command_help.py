"""``command-help``: what a command prints for ``-h``, as it is now.

:::{command-help} certs issue
:::
"""

import io
import os
from contextlib import redirect_stdout, suppress
from unittest.mock import patch

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from mpccomm.cli import main


class CommandHelp(Directive):
    """Its argument: the command, without ``mpccomm``; none: that of ``mpccomm`` itself."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        command = self.arguments[0].split() if self.arguments else []
        output = io.StringIO()
        with patch.dict(os.environ, COLUMNS="100"), redirect_stdout(output), suppress(SystemExit):
            main([*command, "-h"])
        return [nodes.literal_block(output.getvalue(), output.getvalue(), language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True}
