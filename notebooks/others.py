"""The other parties of these notebooks: each in a process of its own, as if it ran on its own machine.

``%load_ext others`` brings two cell magics. ``%%party Bob`` starts the cell as Bob's program, in the background; from then on
``parties["Bob"]`` is its process. (What else is in that line becomes the program's ``sys.argv``.) ``%%everyone`` runs the cell
here, and puts it at the head of every program that is started later. In all of them, ``ports`` maps names to ports of this
machine that were free a moment ago.
"""

import atexit
import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from mpccomm.display import plot_style

NAMES = ("Alice", "Bob", "Carol", "network to Alice", "network to Bob")

# A party ends with this notebook, whatever becomes of it: then the other end of its standard input is closed.
HEAD = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(1)), daemon=True).start()
"""


class Party:
    """A program that runs beside this notebook."""

    def __init__(self, name, program, arguments=()):
        self.name = name
        self._arguments = arguments
        self._directory = tempfile.TemporaryDirectory(prefix="mpccomm-")
        self._program = Path(self._directory.name) / "program.py"
        self._output = Path(self._directory.name) / "output.txt"
        self._program.write_text(program, encoding="utf-8")
        self.start()

    def start(self):
        """Start it; once more, if it has ended."""
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(self._program), *self._arguments],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )

    def wait(self, timeout=30):
        """Wait until its program has ended, and print what it had to say."""
        self._process.wait(timeout)
        self._process.stdin.close()
        for line in self._output.read_text().splitlines():
            print(f"{self.name}: {line}")

    def kill(self):
        """End it at once, as a power cut would."""
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()


def free_ports(names):
    """A free port for each name: none that the system gives to connections, lest one takes it before a party listens there."""
    ports = {}
    while len(ports) < len(names):
        with socket.socket() as one, contextlib.suppress(OSError):
            port = random.randrange(15_000, 32_000)
            one.bind(("127.0.0.1", port))
            if port not in ports.values():
                ports[names[len(ports)]] = port
    return ports


def load_ipython_extension(shell):
    """Called by ``%load_ext``."""
    try:
        import matplotlib

        # Plots take the background of the page, light or dark.
        matplotlib.rcParams.update(plot_style(matplotlib))
    except ImportError:
        pass
    ports = free_ports(NAMES)
    parties = {}
    shared = [f"{HEAD}\nports = {ports}\n"]

    def party(line, cell):
        name, *arguments = line.split()
        if name in parties:
            parties[name].kill()
        parties[name] = Party(name, "\n".join([*shared, cell]), arguments)

    def everyone(line, cell):
        shell.run_cell(cell).raise_error()
        shared.append(cell)

    @atexit.register
    def end():
        for one in parties.values():
            one.kill()

    shell.register_magic_function(party, "cell")
    shell.register_magic_function(everyone, "cell")
    shell.push({"ports": ports, "parties": parties})
