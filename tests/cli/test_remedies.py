"""What is to be done fits what was found, and names who has to do it. The causes are in the words of those who say them."""

from __future__ import annotations

import pytest

from mpccomm.cli import remedies
from mpccomm.cli.doctor import OK, WRONG, Finding, _remedy
from mpccomm.cli.remedies import CONNECTION, OWN_FILES, PORT, PROXY, RELAY, SERVER, SHORTCOMINGS, Remedies
from mpccomm.config import PartyConfig
from mpccomm.engine.party import _NOT_ACCEPTED
from mpccomm.engine.party_log import _CODES
from mpccomm.protocol.states import CloseCode
from mpccomm.relays import Relay
from mpccomm.transport.tls import _ALERTS, _LOCAL, _VERIFY

NAMES = {"me": "alice", "other": "bob", "addr": "bob.example", "port": 61001, "own_port": 61000}


@pytest.mark.parametrize(
    ("table", "why", "remedy"),
    [
        (CONNECTION, "connection refused", "start the program, or doctor, of bob"),
        (
            PROXY,
            "the proxy p:1 refuses a connection to bob.example:61001 (status 429): ask its operator why",
            "ask its operator",
        ),
        (CONNECTION, "a caller from its address was refused: no party was added as 192.0.2.7:1", "in the file here"),
        (CONNECTION, _CODES[CloseCode.NOT_RECOGNISED], "correct addr and port of alice"),
        (CONNECTION, _CODES[CloseCode.VERSION], "same version"),
        (CONNECTION, _NOT_ACCEPTED, "name the certificate of alice"),
        (CONNECTION, _ALERTS["TLSV1_ALERT_UNKNOWN_CA"], "name the certificate of alice"),
        (CONNECTION, _ALERTS["SSLV3_ALERT_CERTIFICATE_EXPIRED"], "issue a new certificate for alice"),
        (CONNECTION, _ALERTS["SSLV3_ALERT_BAD_CERTIFICATE"], "set the clocks"),
        (CONNECTION, _ALERTS["SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"], "for alice that is for both"),
        (CONNECTION, _ALERTS["TLSV1_ALERT_DECRYPT_ERROR"], "compare ca_cert at both ends"),
        (CONNECTION, _VERIFY[7], "compare ca_cert at both ends"),
        (CONNECTION, _VERIFY[9], "set the clocks"),
        (CONNECTION, _VERIFY[10], "bob has to issue a new"),
        (CONNECTION, _VERIFY[18], "compare fingerprints with bob"),
        (CONNECTION, _VERIFY[26], "bob has to issue a certificate that is for both"),
        (CONNECTION, _LOCAL["WRONG_VERSION_NUMBER"], "at both ends, or at none"),
        (CONNECTION, "no answer in time", "open port 61001 of bob.example"),
        (CONNECTION, "something that nobody has thought of", "run mpccomm doctor at bob"),
        (OWN_FILES, "the private key a.pem is encrypted: pass password=, a string or a function", "--password-file"),
        (OWN_FILES, "the private key a.pem can't be decrypted: is the password right?", "correct the password"),
        (
            OWN_FILES,
            "the private key b.pem is not that of the certificate a.pem: name",
            "the key that belongs to this cert",
        ),
        (OWN_FILES, "a.pem can't be read: No such file or directory", "copy the file to this machine"),
        (OWN_FILES, "a.pem holds no certificate that can be read (PEM or DER)", "name another file"),
        (SHORTCOMINGS, "not to be used as server, says its extended key usage", "for both uses"),
        (
            OWN_FILES,
            "the certificate a.pem can't be used: its key is on the curve x, which TLS 1.3 has no signatures for",
            "another kind of key",
        ),
        (SHORTCOMINGS, "an authority in between, whose certificate is in the same file, expired", "in the same file"),
        (SERVER, "the server can't listen at 0.0.0.0:1: Permission denied. Choose another port", "above 1023"),
        (SERVER, "the server can't listen at 0.0.0.0:1: Address already in use", "stop this party's own program"),
        (PORT, "bob.example port 1: connection refused", "start the program (or doctor) of bob"),
        (PORT, "bob.example port 1: no route to host", "check addr of bob"),
        (
            RELAY,
            "it does not let us in: is this party's certificate, or its token, known there?",
            "add the fingerprint",
        ),
        (RELAY, _VERIFY[10], "renew its certificate"),
        (PORT, "bob.example port 1: connection refused", "does not listen at 127.0.0.1 alone"),
        (RELAY, _LOCAL["WRONG_VERSION_NUMBER"], "write http:// in its URL"),
    ],
)
def test_each_cause_has_its_remedy(table: Remedies, why: str, remedy: str) -> None:
    assert remedy in remedies.find(table, why, **NAMES)


def test_on_one_machine_it_does_not_matter_where_the_other_listens() -> None:
    assert "alone" not in remedies.find(PORT, "127.0.0.1 port 1: connection refused", **NAMES)


def of(check: str, party: str = "alice", state: str = WRONG) -> Finding:
    return Finding(party, check, state, "text", "remedy")


ALICE = PartyConfig("alice", "alice.example", 61000)
BOB = PartyConfig("bob", "bob.example", 61001)
RELAYS = (Relay("https://relay.example"),)


def test_what_was_found_before_comes_first() -> None:
    why = "it refuses our certificate as expired"
    assert (
        _remedy(why, ALICE, BOB, [of("certificate")], [])
        == "first do what is said of the certificate of alice, then look again"
    )
    for check in ("name", "certificate", "identity"):
        found = _remedy("hung up", ALICE, BOB, [of("server", state=OK)], [of(check, "bob")])
        assert found == f"first do what is said of the {check} of bob, then look again"


def test_a_relay_that_is_well_is_not_to_blame() -> None:
    bob = PartyConfig("bob", "", relays=RELAYS)
    why = "through the relay relay.example: no answer in time"
    blamed = "first do what is said of the relay, then look again"
    assert _remedy(why, ALICE, bob, [of("relay")], []) == blamed
    assert _remedy(why, ALICE, bob, [of("relay", state=OK)], []) != blamed


def test_a_party_that_can_only_call() -> None:
    found = _remedy("no answer yet", ALICE, PartyConfig("bob", "bob.example", 0), [], [])
    assert "has to call this party, whose port (61000) has to be open" in found
    assert "in the file here" in _remedy("a caller from its address was refused: x", ALICE, BOB, [], [])
