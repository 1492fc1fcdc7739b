"""Machines of their own for the parties, as far as the network is concerned."""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

TOOLS = ("ip", "iptables", "tc")


class CommandError(Exception):
    """A command of the system failed."""


def run(*command: str) -> None:
    """Run a command to its end."""
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise CommandError(f"{' '.join(command)}: {ended.stderr.strip()}")


@dataclass(frozen=True)
class Machine:
    """A network namespace, with a cable to another one."""

    name: str
    address: str
    device: str

    @property
    def within(self) -> tuple[str, ...]:
        """What to put before a command to run it there."""
        return ("ip", "netns", "exec", self.name)

    def run(self, *command: str) -> None:
        """Run a command there."""
        run(*self.within, *command)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """For a while drop all that comes in or goes out, without telling either end."""
        try:
            self.run("iptables", "-A", "INPUT", "-i", self.device, "-j", "DROP")
            self.run("iptables", "-A", "OUTPUT", "-o", self.device, "-j", "DROP")
            yield
        finally:
            self.run("iptables", "-F")

    @contextmanager
    def unplugged(self) -> Iterator[None]:
        """For a while take the cable out; the system knows."""
        try:
            self.run("ip", "link", "set", self.device, "down")
            yield
        finally:
            self.plug_in()

    def plug_in(self) -> None:
        """Put the cable in."""
        self.run("ip", "link", "set", self.device, "up")

    def single_packets(self) -> None:
        """Have each packet go by itself.

        What a network card would cut into packets comes here in one piece, and would be dropped in one.
        """
        self.run("ip", "link", "set", "dev", self.device, "gso_max_segs", "1")

    @contextmanager
    def narrow(self, rate: str, latency: str = "400ms") -> Iterator[None]:
        """For a while send at that rate at most; what exceeds a queue of the given length is dropped."""
        self.single_packets()
        self.run(*f"tc qdisc add dev {self.device} root tbf rate {rate} burst 32kbit latency {latency}".split())
        try:
            yield
        finally:
            self.run("tc", "qdisc", "del", "dev", self.device, "root")


_numbers = itertools.count()


def _prefix() -> str:
    """Return what the names of the machines of one fixture begin with: there may be those of others at the same time."""
    return f"mpccomm-{os.getpid()}-{next(_numbers)}"


def _check_tools(tools: tuple[str, ...]) -> None:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("network namespaces need Linux and root")
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"not installed here: {', '.join(missing)}; apt-get install iproute2 iptables")


@pytest.fixture(scope="module")
def star() -> Iterator[tuple[Machine, Machine, Machine, Machine]]:
    """A machine with two cables, as seen from the first and from the second; and the machines at their ends."""
    with _star(TOOLS, "bob", "carol") as (bob, carol):
        yield bob[0], carol[0], bob[1], carol[1]


@pytest.fixture(scope="module")
def cables() -> Iterator[tuple[Machine, Machine, Machine, Machine]]:
    """The same where nothing is dropped."""
    with _star(("ip", "tc"), "bob", "carol") as (bob, carol):
        yield bob[0], carol[0], bob[1], carol[1]


@pytest.fixture(scope="module")
def routed() -> Iterator[tuple[Machine, Machine, Machine]]:
    """A router as seen from the machine of Bob; and the machines of Alice and Bob, who reach each other through it alone."""
    with _star(("ip", "tc"), "alice", "bob") as (alice, bob):
        bob[0].run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        for at_the_router, machine in (alice, bob):
            machine.run("ip", "route", "add", "default", "via", at_the_router.address)
        alice[1].single_packets()
        yield bob[0], alice[1], bob[1]


@pytest.fixture(scope="module")
def front() -> Iterator[tuple[Machine, Machine, Machine, Machine]]:
    """A machine as seen from that of Alice; and those of Alice, Bob and Carol, to which only the first has a way."""
    with _star(("ip",), "alice", "bob", "carol") as (alice, bob, carol):
        yield alice[0], alice[1], bob[1], carol[1]


@contextmanager
def _star(tools: tuple[str, ...], *ends: str) -> Iterator[list[tuple[Machine, Machine]]]:
    """A machine with a cable to each of some others: for each the two ends of its cable."""
    _check_tools(tools)
    prefix = _prefix()
    hub, *names = (f"{prefix}-{what}" for what in ("hub", *ends))
    made = []
    try:
        try:
            for name in (hub, *names):
                run("ip", "netns", "add", name)
                made.append(name)
                if "iptables" in tools:
                    run("ip", "netns", "exec", name, "iptables", "-L")
        except CommandError as error:
            pytest.skip(f"network namespaces can't be used here: {error}")
        cables = []
        for at, name in enumerate(names):
            cable = (Machine(hub, f"10.231.{at}.1", f"v{at}hub"), Machine(name, f"10.231.{at}.2", f"v{at}end"))
            run(*f"ip -n {hub} link add {cable[0].device} type veth peer name {cable[1].device} netns {name}".split())
            for end in cable:
                run("ip", "-n", end.name, "address", "add", f"{end.address}/24", "dev", end.device)
                end.plug_in()
                # Behind a full queue the system would not find the other end's device any more, after 8 s, and end all connections.
                end.run("sysctl", "-q", "-w", f"net.ipv4.neigh.{end.device}.ucast_solicit=1000")
                # With BBR, which some systems choose, those who share a full queue keep others out of it: 15 attempts of one
                # that found no room end its connection, after 8 s. This one every system has.
                end.run("sysctl", "-q", "-w", "net.ipv4.tcp_congestion_control=reno")
            cables.append(cable)
        yield cables
    finally:
        # What they contain goes with them.
        for name in made:
            subprocess.run(["ip", "netns", "del", name], stdin=subprocess.DEVNULL, check=False)


@pytest.fixture(scope="module")
def masqueraded() -> Iterator[tuple[Machine, Machine, Machine]]:
    """A machine that everybody reaches, and two in private networks with the same addresses, behind routers that masquerade."""
    _check_tools(("ip", "iptables"))
    prefix = _prefix()
    hub, sites = f"{prefix}-relay", ("a", "b")
    made = []
    try:
        try:
            for name in (hub, *(f"{prefix}-{what}{site}" for site in sites for what in ("router", "party"))):
                run("ip", "netns", "add", name)
                made.append(name)
                run("ip", "netns", "exec", name, "iptables", "-t", "nat", "-L")
        except CommandError as error:
            pytest.skip(f"network namespaces can't be used here: {error}")
        one, other = (_behind_a_router(hub, prefix, site, number) for number, site in enumerate(sites))
        yield Machine(hub, "10.232.0.1", "pub0"), one, other
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], stdin=subprocess.DEVNULL, check=False)


def _behind_a_router(hub: str, prefix: str, site: str, number: int) -> Machine:
    router, party = (f"{prefix}-{what}{site}" for what in ("router", "party"))
    outside = Machine(hub, f"10.232.{number}.1", f"pub{number}"), Machine(router, f"10.232.{number}.2", "out")
    inside = Machine(router, "192.168.7.1", "in"), Machine(party, "192.168.7.2", "lan")
    for one, other in (outside, inside):
        run(*f"ip -n {one.name} link add {one.device} type veth peer name {other.device} netns {other.name}".split())
        for end in (one, other):
            run("ip", "-n", end.name, "address", "add", f"{end.address}/24", "dev", end.device)
            end.plug_in()
    for machine in (outside[0], inside[0], inside[1]):
        run("ip", "-n", machine.name, "link", "set", "lo", "up")
    run("ip", "-n", party, "route", "add", "default", "via", inside[0].address)
    run("ip", "-n", router, "route", "add", "default", "via", outside[0].address)
    inside[0].run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
    rules = (
        "-t nat -A POSTROUTING -o out -j MASQUERADE",
        # Nothing new comes in.
        "-P FORWARD DROP",
        "-A FORWARD -i in -j ACCEPT",
        "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT",
    )
    for rule in rules:
        inside[0].run("iptables", *rule.split())
    return inside[1]
