"""What shells complete with: it knows every command and option, and the shell can read it."""

import shutil
import subprocess

import pytest

from mpccomm.cli import COMMANDS, main, parser
from mpccomm.cli.completion import SHELLS, whole
from tests.needs import library

library("shtab")


@pytest.mark.parametrize("shell", SHELLS)
def test_it_knows_every_command_and_option(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for name in COMMANDS:
        assert name in script
        for action in parser(name)._actions:
            for option in action.option_strings:
                assert (option.lstrip("-") if shell == "fish" else option) in script
    if program := shutil.which(shell):
        done = subprocess.run([program, "-n"], input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes(capsys: pytest.CaptureFixture[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("needs bash: install it by the package manager of the system")
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    for line, expected in (
        ("mpccomm do", "doctor"),
        ("mpccomm run --tim", "--timeout"),
        ("mpccomm certs iss", "issue"),
    ):
        words = line.split()
        ask = f"""
            COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE={line!r}; COMP_POINT={len(line)}
            _shtab_mpccomm mpccomm {words[-1]} {words[-2]}
            echo "${{COMPREPLY[@]}}"
        """
        done = subprocess.run([bash, "-c", script + ask], capture_output=True, text=True, check=False)
        assert done.stdout.split() == [expected], done.stderr


def test_the_parser_for_it_is_whole() -> None:
    assert whole().parse_args(["certs", "show", "x"]).command == "certs"
