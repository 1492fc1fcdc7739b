"""Which party a process is, from what starts it: real ones where they can be had, their variables for the others."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from mpccomm import ConfigurationError, Proxy, Settings, SyncPool
from mpccomm.engine.base_pool import engine_of
from mpccomm.environment import from_environment
from tests.certificates import LOCAL, root
from tests.ports import free_ports
from tests.sync.duo import environment as program_environment
from tests.timing import UNIT

MPIEXEC = shutil.which("mpiexec", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

PATTERN = "party-{i}.mpc:61000"
STARTED = {
    "Open MPI": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "0"},
    "MPICH": {"PMI_RANK": "1", "PMI_SIZE": "3", "PMI_FD": "6"},
    "srun": {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "3", "SLURM_NTASKS": "3", "SLURM_STEP_ID": "0"},
    "Kubernetes Job": {"JOB_COMPLETION_INDEX": "1", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "MPCCOMM_SIZE": "3"},
    "StatefulSet": {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "MPCCOMM_SIZE": "3", "HOSTNAME": "party-1"},
    "torchrun": {"RANK": "1", "WORLD_SIZE": "3", "LOCAL_RANK": "1"},
    "mpccomm run": {"MPCCOMM_PARTY": "party-1", "MPCCOMM_SIZE": "3"},
}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MPCCOMM_", "OMPI_", "PMI", "SLURM_", "KUBERNETES_", "JOB_")) or name in (
            "RANK",
            "WORLD_SIZE",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setattr("socket.gethostname", lambda: "machine-7")


def start(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    if "HOSTNAME" in variables:
        monkeypatch.setattr("socket.gethostname", lambda: variables["HOSTNAME"])


@pytest.mark.parametrize("starter", STARTED)
def test_with_a_pattern(starter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, STARTED[starter])
    config, me = from_environment(None, PATTERN, None)
    assert me == "party-1"
    assert [(party.addr, party.port) for party in config.parties.values()] == [
        (f"party-{i}.mpc", 61000) for i in range(3)
    ]
    monkeypatch.setenv("MPCCOMM_HOSTS", "a.example:1, [fd00::1]:2, c.example")
    monkeypatch.setenv("MPCCOMM_PARTY", "bob")
    config, me = from_environment(None, None, ["alice", "bob", "carol"])
    assert me == "bob"
    places = [(party.addr, party.port) for party in config.parties.values()]
    assert places == [("a.example", 1), ("fd00::1", 2), ("c.example", None)]


@pytest.mark.parametrize("starter", [starter for starter in STARTED if starter != "mpccomm run"])
def test_with_a_file(starter: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "mpccomm.toml"
    file.write_text("".join(f"[parties.{name}]\naddr = '{name}.example'\n" for name in ("zoe", "alice", "bob")))
    start(monkeypatch, STARTED[starter])
    assert from_environment(file, None, None)[1] == "alice"
    monkeypatch.setenv("MPCCOMM_CONFIG", str(file))
    assert from_environment(None, None, None)[1] == "alice"
    file.write_text("[parties.zoe]\naddr = 'zoe'\n")
    with pytest.raises(ConfigurationError, match=r"number 1 of 3 .* has 1 parties: zoe"):
        from_environment(None, None, None)


@pytest.mark.parametrize("starter", STARTED)
def test_it_never_falls_back_to_this_machine(starter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, STARTED[starter])
    with pytest.raises(
        ConfigurationError, match=r"nothing says where the parties are; this process is .*1.*MPCCOMM_CONFIG"
    ):
        SyncPool.from_env()


def test_settings_in_the_place_of_those_in_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """But what the launcher asks for stays."""
    start(monkeypatch, {"MPCCOMM_PARTY": "alice"})
    file = tmp_path / "mpccomm.toml"
    ports = free_ports(2)
    text = f"[settings]\nlinger = 3\nreport_to = {str(tmp_path)!r}\n"
    for name, port in zip(("alice", "bob"), ports, strict=True):
        text += f"[parties.{name}]\naddr = '{LOCAL}'\nport = {port}\n"
    file.write_text(text)
    with SyncPool.from_env(file, settings=Settings(linger=7, trace=tmp_path)) as pool:
        settings = engine_of(pool).settings
        assert (settings.linger, str(settings.report_to), settings.trace) == (7, str(tmp_path), tmp_path)
    with SyncPool.from_env(
        hosts=f"{LOCAL}:{ports[0]},{LOCAL}:{ports[1]}", names=["alice", "bob"], settings=Settings(linger=8)
    ) as pool:
        assert engine_of(pool).settings == Settings(linger=8)


REFUSED = [
    ({}, "nothing says which party this process is: .*MPCCOMM_PARTY"),
    ({"RANK": "0"}, "RANK is set, but WORLD_SIZE is not"),
    ({"RANK": "3", "WORLD_SIZE": "3"}, "number 3 of 3"),
    ({"RANK": "two", "WORLD_SIZE": "3"}, "RANK is 'two', which is no number"),
    ({"PMI_RANK": "0", "PMI_SIZE": "2"}, "number 0 of 2 .* has 3 parties"),
    ({"JOB_COMPLETION_INDEX": "3"}, "number 3 .* has 3 parties"),
    ({"MPCCOMM_PARTY": "eve"}, "no party 'eve'"),
    # A batch script has this; it is no process of a step.
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "3"}, "nothing says which party"),
    # The name of a machine counts in Kubernetes only.
    ({"HOSTNAME": "node-1"}, "nothing says which party"),
]


@pytest.mark.parametrize(("variables", "expected"), REFUSED, ids=[expected[:30] for _, expected in REFUSED])
def test_what_is_refused(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, variables)
    with pytest.raises(ConfigurationError, match=expected):
        from_environment(None, "a:1,b:2,c:3", None)


@pytest.mark.parametrize(
    ("hosts", "names", "expected"),
    [
        ("a:1,b:1,a:1", None, r"^a:1 is there twice \(a:1, b:1, a:1\): each party needs a place of its own$"),
        ("a:1,b:1", ["x"], "each party needs a name and a place"),
        ("a:1,b:1", ["x", "x"], r"^x is there twice \(x, x\): each party needs a name of its own$"),
        ("party-{j}:61", None, r"^MPCCOMM_HOSTS is party-\{j\}:61: only \{i\} stands for something, not \{j\}$"),
        ("a:0,b:1", None, "is no address"),
        ("a b:1,c:1", None, "is no address"),
        (PATTERN, None, "how many parties"),
    ],
)
def test_patterns_that_cannot_be(hosts: str, names: list[str] | None, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        from_environment(None, hosts, names)


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("MPCCOMM_CRET", r"MPCCOMM_CRET is unknown; did you mean MPCCOMM_CERT\?$"),
        ("MPCCOMM_KYE", r"did you mean MPCCOMM_KEY\?$"),
        ("MPCCOMM_CA_CRET", r"did you mean MPCCOMM_CA_CERT\?$"),
        ("MPCCOMM_RELY", r"did you mean MPCCOMM_RELAY\?$"),
        ("MPCCOMM_PRATY", r"did you mean MPCCOMM_PARTY\?$"),
        ("MPCCOMM_EXPLIAN", r"did you mean MPCCOMM_EXPLAIN\?$"),
        ("MPCCOMM_VERBOSE", r"is unknown; there are MPCCOMM_CA_CERT, .*MPCCOMM_SIZE; unset it$"),
        ("MPCCOMM_RELAY_TOKEN_FILE", "MPCCOMM_RELAY_TOKEN_FILE is set, but MPCCOMM_RELAY is not"),
        ("MPCCOMM_PROXY_CA_CERT", "MPCCOMM_PROXY_CA_CERT is set, but MPCCOMM_PROXY is not"),
    ],
)
def test_no_variable_silently_does_nothing(variable: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, STARTED["MPICH"] | {variable: "x"})
    with pytest.raises(ConfigurationError, match=expected):
        from_environment(None, PATTERN, None)
    monkeypatch.setenv(variable, "")
    from_environment(None, PATTERN, None)


def test_variables_of_tests_and_of_services_in_kubernetes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, STARTED["MPICH"] | {"MPCCOMM_TEST_LONG": "1"})
    for service in ("MPCCOMM", "MPCCOMM_RELAY"):
        for rest in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTPS", "PORT", "PORT_443_TCP", "PORT_443_TCP_ADDR"):
            monkeypatch.setenv(f"{service}_{rest}", "10.0.0.1")
    assert from_environment(None, PATTERN, None)[1] == "party-1"


def test_what_has_no_effect_beside_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    start(monkeypatch, {"MPCCOMM_CERT": "a.pem", "MPCCOMM_KEY": "a.key", "MPCCOMM_PARTY": "a"})
    text = r"MPCCOMM_CERT has no effect beside a configuration file, parties\.toml: .* unset MPCCOMM_CERT, MPCCOMM_KEY$"
    with pytest.raises(ConfigurationError, match=text):
        from_environment("parties.toml", None, None)


def test_a_file_and_a_pattern(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPCCOMM_CONFIG", "mpccomm.toml")
    with pytest.raises(ConfigurationError, match="give one of them"):
        from_environment(None, PATTERN, None)


def test_certificates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ca.pem", "party-1.pem", "1.key"):
        (tmp_path / name).touch()
    start(monkeypatch, STARTED["MPICH"] | {"MPCCOMM_CERT": f"{tmp_path}/{{name}}.pem"})
    with pytest.raises(ConfigurationError, match="both MPCCOMM_CERT and MPCCOMM_CA_CERT"):
        from_environment(None, PATTERN, None)
    start(monkeypatch, {"MPCCOMM_CA_CERT": f"{tmp_path}/ca.pem", "MPCCOMM_KEY": f"{tmp_path}/{{i}}.key"})
    config, me = from_environment(None, PATTERN, None)
    assert config.ca_cert == tmp_path / "ca.pem"
    assert config.parties[me].cert == (tmp_path / "party-1.pem",)
    assert config.parties[me].key == tmp_path / "1.key"
    assert not config.parties["party-0"].cert
    monkeypatch.setenv("MPCCOMM_CERT", "{n}.pem")
    with pytest.raises(
        ConfigurationError, match=r"MPCCOMM_CERT is \{n\}\.pem: only \{i\} and \{name\} stand for something"
    ):
        from_environment(None, PATTERN, None)
    monkeypatch.setenv("MPCCOMM_CERT", "no.pem")
    with pytest.raises(ConfigurationError, match="MPCCOMM_CERT: there is no file"):
        from_environment(None, PATTERN, None)


def test_the_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "mpccomm.toml"
    file.write_text("proxy = 'env'\n[parties.alice]\naddr = 'a.example'\n[parties.bob]\naddr = 'b.example'\n")
    start(monkeypatch, {"MPCCOMM_PARTY": "alice", "MPCCOMM_PROXY": "http://me:hunt%40er2@proxy.corp:3128"})
    config, _ = from_environment(file, None, None)
    proxy = config.parties["alice"].proxy
    assert isinstance(proxy, Proxy)
    assert (proxy.url, proxy.authorization) == ("http://proxy.corp:3128", "me:hunt@er2")
    assert config.parties["bob"].proxy == "env"
    assert "hunt" not in repr(config)
    start(monkeypatch, {"MPCCOMM_PROXY": "https://proxy.corp", "MPCCOMM_PROXY_CREDENTIALS_FILE": "password"})
    proxy = from_environment(None, PATTERN, ["alice", "bob", "carol"])[0].parties["alice"].proxy
    assert proxy == Proxy("https://proxy.corp", "password")
    monkeypatch.setenv("MPCCOMM_PROXY", "none")
    assert from_environment(file, None, None)[0].parties["alice"].proxy == "none"
    monkeypatch.setenv("MPCCOMM_PROXY", "socks5://me:hunter2@proxy")
    with pytest.raises(ConfigurationError, match="MPCCOMM_PROXY: a proxy is a URL") as caught:
        from_environment(file, None, None)
    assert "hunter2" not in str(caught.value)


@pytest.mark.skipif(MPIEXEC is None, reason="there is no mpiexec; pip install mpich")
@pytest.mark.parametrize("tls", [False, True])
def test_a_real_mpiexec(tls: bool, tmp_path: Path) -> None:
    assert MPIEXEC is not None
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import sys
            from mpccomm import SyncPool
            with SyncPool.from_env() as pool:
                line = f"{pool.name} {pool.group().allgather(pool.name, timeout=30)}\\n"
            sys.stdout.write(line)  # at once: mpiexec mixes what comes in pieces
        """)
    )
    variables = {"MPCCOMM_HOSTS": ",".join(f"{LOCAL}:{port}" for port in free_ports(3))}
    if tls:
        authority, folder = root(), tmp_path
        (folder / "ca.pem").write_bytes(authority.pem())
        for number in range(3):
            identity = authority.issue(f"party-{number}", LOCAL)
            (folder / f"{number}.pem").write_bytes(identity.pem() + identity.key_bytes())
        variables |= {"MPCCOMM_CERT": f"{folder}/{{i}}.pem", "MPCCOMM_CA_CERT": f"{folder}/ca.pem"}
    command = [MPIEXEC, "-n", "3", sys.executable, str(script)]
    done = subprocess.run(
        command,
        env=program_environment() | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400 * UNIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    everybody = {f"party-{number}": f"party-{number}" for number in range(3)}
    assert sorted(done.stdout.splitlines()) == [f"{name} {everybody}" for name in everybody]


@pytest.mark.parametrize(
    ("names", "text"),
    [("ab", r"^names takes .* did you mean \['ab'\]"), (1, "^names takes .* not 1"), ([1], "a text, not int")],
)
def test_names_are_a_list_of_texts(names: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        SyncPool.from_env(hosts=f"{LOCAL}:1", names=names)
