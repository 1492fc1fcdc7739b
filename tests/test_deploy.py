"""The examples for containers: valid by their schemas, and right by what the library makes of them."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mpccomm.cli import parser
from mpccomm.environment import find_rank, from_environment
from mpccomm.transport.identity import read_certificates
from tests.needs import missing
from tests.sync.duo import environment
from tests.timing import UNIT

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
KUBERNETES = ["kubernetes-job.yaml", "kubernetes-statefulset.yaml"]
RELAY = "relay-kubernetes.yaml"

yaml = pytest.importorskip("yaml", reason=missing("pyyaml", extra="deploy"))


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def of_kind(name: str, *kinds: str) -> dict[str, Any]:
    (found,) = [document for document in documents(name) if document["kind"] in kinds]
    return found


def makes_certificates(tmp_path: Path, title: str) -> Path:
    """What the commands of a section of the README make."""
    section = (DEPLOY / "README.md").read_text().partition(f"## {title}")[2].partition("\n## ")[0]
    commands = re.findall(r"^mpccomm (certs .*)$", section, re.MULTILINE)
    assert commands
    for command in commands:
        arguments = [sys.executable, "-m", "mpccomm", *command.split()]
        subprocess.run(
            arguments, cwd=tmp_path, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    return tmp_path


def test_compose_is_valid() -> None:
    schemas = pytest.importorskip("check_jsonschema", reason=missing("check-jsonschema", extra="deploy"))
    jsonschema = pytest.importorskip("jsonschema", reason=missing("jsonschema", extra="deploy"))
    path = Path(schemas.__file__).parent / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    (compose,) = documents("compose.yaml")
    jsonschema.validate(compose, schema)
    jsonschema.validate(documents("relay-compose.yaml")[0], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(compose | {"services": {"alice": {"imagine": "x"}}}, schema)


@pytest.mark.parametrize("name", [*KUBERNETES, RELAY, "kubernetes-ingress.yaml"])
def test_kubernetes_is_valid(name: str) -> None:
    kubernetes_validate = pytest.importorskip(
        "kubernetes_validate", reason=missing("kubernetes-validate", extra="deploy")
    )
    for document in documents(name):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            document | {"spec": {"imagine": "x"}}, kubernetes_validate.latest_version(), strict=True
        )


def test_each_container_of_compose_finds_what_its_party_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason=missing("cryptography", extra="tests"))
    (compose,) = documents("compose.yaml")
    (tmp_path / "mpccomm.toml").write_text((DEPLOY / "mpccomm.toml").read_text())
    made = makes_certificates(tmp_path, "docker-compose")
    for name, service in compose["services"].items():
        inside = made / "containers" / name
        files = {one["target"]: compose["configs"][one["source"]]["file"] for one in service["configs"]}
        (secret,) = service["secrets"]
        key = compose["secrets"][secret["source"]]["file"]
        assert (made / key).is_file()
        for target, source in files.items():
            place = inside / target.removeprefix("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes((made / source).read_bytes())
        variables = service["environment"]
        monkeypatch.setenv("MPCCOMM_PARTY", variables["MPCCOMM_PARTY"])
        config, me = from_environment(inside / variables["MPCCOMM_CONFIG"].removeprefix("/"), None, None)
        assert me == name == service["hostname"] == config.party(me).addr
        assert str(config.party(me).key) == f"/run/secrets/{secret['target']}"
        assert key == f"certificates/{name}/key.pem"
        assert list(config.parties) == list(compose["services"])
        for party in config.parties.values():
            assert read_certificates(party.cert[0])[0].is_for(party.addr)


@pytest.mark.parametrize("name", KUBERNETES)
def test_each_pod_finds_what_its_party_needs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cryptography", reason=missing("cryptography", extra="tests"))
    made = makes_certificates(tmp_path, "Kubernetes")
    service, workload = of_kind(name, "Service"), of_kind(name, "Job", "StatefulSet")
    spec, pod = workload["spec"], workload["spec"]["template"]["spec"]
    count = spec.get("replicas", spec.get("completions"))
    domain = spec.get("serviceName", pod.get("subdomain"))
    assert service["metadata"]["name"] == domain
    assert service["spec"]["clusterIP"] == "None"
    labels = spec["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert of_kind(name, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    (container,) = pod["containers"]
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "ca.cert.pem").write_bytes((made / "certificates" / "authority.cert.pem").read_bytes())
    for path in made.glob("certificates/party-*/party-*.pem"):
        (mounted / path.name).write_bytes(path.read_bytes())
    assert container["volumeMounts"][0]["mountPath"] == "/etc/mpccomm"
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"].replace("/etc/mpccomm", str(mounted)))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    for index in range(count):
        hostname = f"{workload['metadata']['name']}-{index}"
        monkeypatch.setattr("socket.gethostname", lambda hostname=hostname: hostname)
        if workload["kind"] == "Job":
            monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        config, me = from_environment(None, None, None)
        party = config.party(me)
        assert me == hostname
        assert (len(config.parties), party.addr, party.port) == (count, f"{hostname}.{domain}", 61000)
        assert read_certificates(party.cert[0])[0].is_for(party.addr)
        assert party.key is not None
    assert {port["containerPort"] for port in container["ports"]} == {61000}
    assert pod["volumes"][0]["secret"]["secretName"] in (DEPLOY / "README.md").read_text()


def test_the_program_runs() -> None:
    command = [sys.executable, "-m", "mpccomm", "run", "-n", "3", "--timeout", "60", str(DEPLOY / "program.py")]
    done = subprocess.run(
        command,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=700 * UNIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(r"mine is (\d+), the largest is (\d+)", done.stdout)
    assert len(found) == 3
    assert {int(largest) for _, largest in found} == {max(int(mine) for mine, _ in found)}


def test_what_a_pod_without_a_number_is_told() -> None:
    assert find_rank({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "deployment-5d8f7-x2x") is None


def relay_commands() -> dict[str, list[str]]:
    """How each of the examples starts a relay."""
    (compose,) = documents("relay-compose.yaml")
    (container,) = of_kind(RELAY, "Deployment")["spec"]["template"]["spec"]["containers"]
    unit = (DEPLOY / "mpccomm-relay.service").read_text().replace("\\\n", " ")
    (start,) = re.findall(r"^ExecStart=/opt/mpccomm/bin/(.*)$", unit, re.MULTILINE)
    return {
        "compose": compose["services"]["relay"]["command"],
        "kubernetes": container["command"] + container["args"],
        "systemd": start.split(),
    }


@pytest.mark.parametrize("where", ["compose", "kubernetes", "systemd"])
def test_a_relay_is_started_with_options_that_there_are(where: str) -> None:
    program, name, *arguments = relay_commands()[where]
    assert (program, name) == ("mpccomm", "relay")
    options = parser("relay").parse_args(arguments)
    assert options.ca or options.fingerprints or options.token_file
    assert options.status_token_file
    # Behind something that has TLS it has to know its own name.
    assert bool(options.cert) != bool(options.url)


def test_what_a_relay_is_given_is_mounted() -> None:
    (compose,) = documents("relay-compose.yaml")
    service = compose["services"]["relay"]
    mounted = {one["target"] for one in service["configs"]} | {
        f"/run/secrets/{one['target']}" for one in service["secrets"]
    }
    options = parser("relay").parse_args(relay_commands()["compose"][2:])
    assert {str(path) for path in (options.cert, options.key, options.ca, options.status_token_file)} == mounted
    assert service["ports"] == [f"443:{options.listen[1]}"]
    options = parser("relay").parse_args(relay_commands()["kubernetes"][2:])
    (container,) = of_kind(RELAY, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == options.listen[1]
    assert options.url == "https://" + of_kind(RELAY, "Ingress")["spec"]["rules"][0]["host"]
