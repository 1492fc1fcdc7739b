"""Each sentence of SECURITY.md is shown by a test, or says why none can."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCOPE = "says what the page, or the library, is for"
ADVICE = "tells people what to do"
WORLD = "a fact about the world, or about what others do"

MATRIX = "transport/test_tls_matrix.py::test_bob_calls transport/test_tls_matrix.py::test_alice_calls"
BOMBS = "codec/test_limits.py::test_bombs codec/test_limits.py::test_generated_messages"
FORGERY = "protocol/test_forgery.py::test_a_message_belongs_to_the_party_whose_connection_brought_it"
SECRECY = "pool/test_secrecy.py::test_asyncio pool/test_secrecy.py::test_blocking"
VIOLATIONS = (
    "transport/test_hostile_parties.py::test_what_breaks_the_protocol transport/test_hostile_parties.py::test_floods "
    "transport/test_hostile_parties.py::test_after_some_offences_it_stays_out"
)
PLAIN = "transport/test_hostile_parties.py::test_on_plain_http_only_connections_are_dropped"
PIN = "transport/test_tls.py::test_a_connection_with_a_pin_that_was_given_up_ends"
TICKETS = "transport/test_tls.py::test_no_ticket_saves_a_caller_from_showing_its_certificate"
GROUPS = "transport/test_tls.py::test_no_stranger_makes_us_compute_in_large_fields"
WEB_PAGE = "transport/test_server.py::test_a_web_page_is_no_party"
ADMISSION = "transport/test_admission.py::"
PRIVACY = "codec/test_pandas_privacy.py::"
RELAY = "transport/test_relay.py::"
LIES = "transport/test_relay_that_lies.py::"
AT_RELAY = "transport/test_hostile_relay.py::"
PROXY = "transport/test_proxy.py::"
NAME = "transport/test_server_name.py::"
SHARED = "transport/test_shared_port.py::"
RELEASES = "test_dependencies.py::test_no_release_with_known_faults_is_allowed"

SHOWN = {
    "mpccomm carries the messages": SCOPE,
    "This page says what": SCOPE,
    "It has not been audited": WORLD,
    "What is protected: the content": SCOPE,
    "| an attacker who reads the network": f"transport/test_tls_errors.py::test_an_old_version_calls {TICKETS}",
    "| an attacker who changes what is on the network": (
        "faults/test_cuts.py::test_messages_in_both_directions faults/test_replay.py::"
        "test_a_replayed_connection_is_refused_and_harmless properties/test_simulation.py::test_every_promise_is_kept"
    ),
    "| a stranger who can reach the port": (
        "transport/test_hostile_strangers.py::test_a_crowd transport/test_hostile_strangers.py::test_a_crowd_disperses "
        "engine/test_authentication.py::test_a_party_is_its_address_and_the_port_that_it_declares"
    ),
    "| a web page in a browser": WEB_PAGE,
    "| a party that breaks the protocol": f"{VIOLATIONS} {PLAIN}",
    "| a party that lies in its values": SCOPE,
    "| the holder of a party's key": PIN,
    "| the owner of a name server": WORLD,
    "| a reader of a process's memory": WORLD,
    "Forward secrecy:": TICKETS,
    "Against a quantum computer": WORLD,
    "Large finite fields": GROUPS,
    "Python 3.15 is told": "transport/test_tls.py::test_which_groups_are_asked_for",
    "In between OpenSSL's own list": WORLD,
    "`Pool(key=, cert=, ca_cert=)`": MATRIX,
    "`mpccomm certs` makes": "cli/test_certs.py::test_ready_to_use",
    "| an attacker on the network": f"transport/test_tls_errors.py::test_an_old_version_calls {TICKETS}",
    "| an attacker who poses as a party": MATRIX,
    "| another authority": MATRIX,
    "| certificates that have expired, or": f"{MATRIX} transport/test_identity.py::test_validity",
    "| a party that poses as another": FORGERY,
    "| a party that sends what the protocol forbids": (
        f"{VIOLATIONS} transport/test_tls_records.py::test_one_that_sends_nothing_but_new_keys_is_cut_off"
    ),
    "| strangers who want to occupy": (
        f"{ADMISSION}test_from_one_address {ADMISSION}test_from_many_addresses {ADMISSION}test_how_much_one_may_say "
        f"{ADMISSION}test_for_how_long {ADMISSION}test_the_places_of_parties_are_their_own "
        f"{ADMISSION}test_whoever_posts_may_say_more {ADMISSION}test_whoever_posts_may_post_many_at_once "
        "transport/test_listener.py::test_callers_for_one_whose_loop_is_busy_keep_their_places"
    ),
    "| certificates that expire, or are replaced": (
        "transport/test_tls.py::test_a_certificate_that_expires_meanwhile_ends_its_connection "
        "transport/test_tls.py::test_from_a_reload_on_nothing_counts_and_nothing_goes_there "
        "transport/test_tls.py::test_our_own_expiry_is_announced"
    ),
    "| whatever answers in the place": (
        "transport/test_client.py::test_an_answer_without_end_is_cut_off "
        "transport/test_bounded.py::test_frames_on_a_kept_connection_are_bounded "
        "transport/test_bounded.py::test_bytes_on_a_kept_connection_are_bounded"
    ),
    "| strangers who want to fill the log": (
        "transport/test_log_throttle.py::test_a_flood_of_one_kind_is_bounded_and_counted_and_hides_no_other "
        "transport/test_log_throttle.py::test_a_line_has_a_length "
        "engine/test_party_log.py::test_who_comes_and_goes_does_not_fill_the_log"
    ),
    "| a caller who wants to learn something from refusals": (
        "transport/test_client.py::test_no_version_is_told_to_whoever_answers transport/test_server.py::test_no_upgrade "
        "transport/test_hostile_parties.py::test_what_breaks_the_protocol"
    ),
    "| an endless quarrel": (
        "transport/test_tls_errors.py::test_a_refusal_is_final_but_each_call_tries_once_more "
        "transport/test_tls_errors.py::test_it_is_not_tried_for_ever"
    ),
    "The private key never leaves": "transport/test_tls.py::test_the_key_never_lies_about_in_the_clear",
    "What certificates do not protect against": SCOPE,
    "a party that takes part in the protocol": SCOPE,
    "an attacker who can use a party's key": SCOPE,
    "There are no revocation lists": f"{PIN} transport/test_tls.py::test_renewal_with_two_pins",
    "parties without a pin that share": "transport/test_tls.py::test_two_unpinned_ones_at_one_address",
    "The pool warns of it": "transport/test_tls.py::test_two_unpinned_ones_at_one_address",
    "traffic analysis": WORLD,
    "an attacker with more addresses": WORLD,
    "Parties whose addresses are known keep": (
        f"{ADMISSION}test_the_places_of_parties_are_their_own "
        "transport/test_server.py::test_many_idle_callers_keep_nobody_out"
    ),
    "Plain HTTP is for one machine": SCOPE,
    "Everything can be read": WORLD,
    "A party is known by the address": "engine/test_authentication.py::test_a_party_is_its_address_and_the_port_that_it_declares",
    "The pool says so at the start": "engine/test_authentication.py::test_plain_http_elsewhere_is_warned_of_once",
    "Since what is done in a party's name": PLAIN,
    "Nothing that arrives runs code": (
        "test_house.py::test_nothing_is_evaluated_or_unpickled "
        "codec/test_registry.py::test_unregistered_here_is_an_error_that_says_what_to_do"
    ),
    "Decoding is bounded by": f"{BOMBS} codec/test_arrow.py::test_malformed codec/test_limits.py::test_many_small_values "
    "codec/test_limits.py::test_dense_values_without_ballast codec/test_limits.py::test_dense_messages",
    "Keys that were chosen": "codec/test_keys.py::test_hashes_that_collide "
    "codec/test_keys.py::test_the_way_to_the_place_of_a_key_is_not_long codec/test_arrow.py::test_malformed",
    "(A frame from a party with `wire=`": "codec/test_parquet.py::test_small_files_that_hold_much",
    "Its metadata is read": "codec/test_parquet.py::test_of_honest_files codec/test_parquet.py::test_files_with_a_byte_changed",
    "Nothing leaves that is not part": (
        f"{PRIVACY}test_rows_that_are_not_selected_do_not_leave {PRIVACY}test_values_that_are_made_missing_do_not_leave "
        "codec/test_tables.py::test_a_slice_leaves_without_the_rest"
    ),
    "But a categorical column": f"{PRIVACY}test_categories_are_part_of_the_type_until_they_are_removed",
    "`cat.remove_unused_categories()`": f"{PRIVACY}test_categories_are_part_of_the_type_until_they_are_removed",
    "Nothing of a message is read before": (
        "transport/test_websocket.py::test_only_the_first_batch_before_somebody_takes_it "
        "transport/test_server.py::test_frames_before_the_greeting_is_complete"
    ),
    "What a party may keep us holding": "protocol/test_receiver.py::test_a_full_box",
    "`box_bytes` and `box_messages`": (
        "protocol/test_box.py::test_messages_and_bytes_are_bounded protocol/test_receiver.py::test_contradictions "
        "protocol/test_frames_mutation.py::test_a_batch_holds_a_limited_number_of_frames"
    ),
    "A party that was added with `wire=`": (
        "transport/test_tno.py::test_what_does_not_fit_waits "
        "transport/test_tno.py::test_the_connections_of_a_party_are_bounded "
        "transport/test_tno.py::test_whoever_stops_in_the_middle_makes_room "
        "transport/test_tno.py::test_whoever_drips_makes_room transport/test_tno.py::test_the_one_goes_that_has_been_still "
        "transport/test_tno.py::test_little_is_read_before_there_is_room"
    ),
    "What fails in the pool itself": (
        "transport/test_log_throttle.py::test_an_error_of_our_own_is_logged_once_in_a_while "
        "engine/test_tno_bridge.py::test_what_fails_inside_is_tried_again_after_pauses"
    ),
    "A party in whose connection that happens": (
        "engine/test_reputation.py::test_pauses_after_failures "
        "engine/test_tno_bridge.py::test_what_fails_inside_is_tried_again_after_pauses"
    ),
    "No content of a message is logged": SECRECY,
    "An error about a value that can't be sent": (
        f"codec/test_encoder.py::test_error_names_path_type_and_remedy {SECRECY}"
    ),
    "An exception that ends a `with` block": "pool/test_secrecy.py::test_an_exception_that_leaves_the_block",
    "What a `deserialize` method": ADVICE,
    "The record of `audit=`": "engine/test_audit.py::test_both_ends",
    "Keep it as closely": ADVICE,
    "The file is readable by its owner": "engine/test_audit.py::test_a_file_that_others_could_read_becomes_ours_alone",
    "A web page can't be a party": WEB_PAGE,
    "A browser puts an `Origin`": WEB_PAGE,
    "The name in `Host`": "transport/test_server.py::test_a_name_in_host_is_not_compared",
    "Compressed bodies are refused": (
        "transport/test_server.py::test_a_compressed_body_is_refused "
        "transport/test_client.py::test_settings_of_the_environment_count_for_nothing "
        "transport/test_client.py::test_something_else_answers"
    ),
    "All limits are in": "test_settings.py::test_the_defaults_are_good",
    "What reads from the network or handles": RELEASES,
    "| aiohttp |": RELEASES,
    "| cryptography |": RELEASES,
    "| ormsgpack |": RELEASES,
    "OpenSSL comes with Python": ADVICE,
    "`python -m tests.hostile` runs": "test_security.py::test_the_table_of_attacks_can_be_made",
    "Certificates right and wrong": "test_security.py::test_files_that_are_named_are_there",
    "`tests/test_security.py` names": "test_security.py::test_each_sentence_is_shown_or_says_why_not",
    "A relay (`mpccomm relay`) is untrusted": SCOPE,
    "The parties' TLS 1.3 runs through it": f"{RELAY}test_two_parties_that_only_dial_out {RELAY}test_without_certificates",
    "| it learns | the certificates": WORLD,
    "| it can | refuse, delay, cut": f"{LIES}test_now_and_then {RELAY}test_a_restart_loses_nothing",
    "| it can't | read, change": f"{LIES}test_now_and_then {LIES}test_in_the_handshake {LIES}test_another_party_than_was_asked_for",
    "| if it goes on |": f"{LIES}test_for_ever_another_party",
    "| whom it lets in |": f"{RELAY}test_by_certificate {RELAY}test_a_wrong_token {LIES}test_calls_that_nobody_made",
    "| what that signature is good for |": (
        f"{LIES}test_a_signature_is_for_one_relay_and_one_challenge {LIES}test_what_is_signed_can_be_taken_for_nothing_else "
        f"{RELAY}test_a_relay_that_others_name_otherwise"
    ),
    "| a member of the relay that misbehaves |": (
        f"{AT_RELAY}test_a_member_that_calls_without_end {AT_RELAY}test_a_member_with_many_connections "
        f"{RELAY}test_somebody_else_than_was_meant "
        f"{AT_RELAY}test_where_all_places_for_calls_are_taken_parties_have_them_in_turn"
    ),
    "| strangers | 256 places": f"{AT_RELAY}test_many_silent_strangers {AT_RELAY}test_strangers_get_a_bare_status",
    "| many members under one token |": ADVICE,
    "| a token | is sent in a header": f"{RELAY}test_a_wrong_token {RELAY}test_what_its_operator_sees",
    "| its operator | sees": f"{RELAY}test_what_its_operator_sees",
    "A proxy on the way out": SCOPE,
    "TLS runs through them unopened": (
        f"{PROXY}test_messages_go_through_and_the_proxy_sees_tls_alone {PROXY}test_without_certificates_there_is_none"
    ),
    "| a proxy learns |": f"{PROXY}test_the_proxy_resolves_the_name {NAME}test_by_tls",
    "| a proxy can |": f"{PROXY}test_refusals_are_told_apart",
    "| a proxy can't |": f"{PROXY}test_another_than_the_party_behind_the_proxy",
    "| the name that is asked for |": f"{NAME}test_routed_to_another_party {SHARED}test_a_name_vouches_for_nothing",
    "| the password of a proxy |": (
        f"{PROXY}test_a_wrong_password_ends_calls_and_is_not_repeated {PROXY}test_tls_to_the_proxy_itself "
        f"{PROXY}test_a_proxy_without_tls_and_one_that_is_not_trusted "
        "test_proxies.py::test_no_password_in_a_url_and_none_in_sight"
    ),
    "| what a proxy answers |": f"{PROXY}test_refusals_are_told_apart",
    "| the environment |": f"{PROXY}test_the_environment_counts_when_it_is_asked_for",
    "A party answers calls from a relay only": f"{AT_RELAY}test_strangers_have_less_than_what_they_are_granted_elsewhere",
    "It answers 128 calls at once": f"{LIES}test_a_flood_of_calls_takes_no_time_from_others",
    "Each party with a pinned": (
        f"{AT_RELAY}test_calls_of_those_that_it_does_not_know_take_no_answers_from_those_that_it_knows "
        f"{LIES}test_a_flood_of_calls_takes_no_time_from_others"
    ),
    "Parties that are known by an authority share": SCOPE,
    "Please report": ADVICE,
    "Say what you did": ADVICE,
    "The fix is published": ADVICE,
}
"""The beginning of each sentence, or row of a table, and the tests that show it, or the reason why there is none."""
TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def sentences() -> list[str]:
    """Return the sentences of the page; a row of a table is one, its head is none."""
    text = re.sub(r"^#.*$|^\|.*\n\|[-|]+\|$", "", TEXT, flags=re.MULTILINE)
    found: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=\| )|\n(?=\* )", text):
        whole = " ".join(block.split()).removeprefix("* ")
        found += [whole] if whole.startswith("|") else re.split(r"(?<=[.:])\s+(?=[A-Z`(])|(?<=most\.)\s+", whole)
    return [sentence for sentence in found if sentence]


def test_each_sentence_is_shown_or_says_why_not() -> None:
    page = sentences()
    assert [sentence for sentence in page if not any(map(sentence.startswith, SHOWN))] == []
    assert [begin for begin in SHOWN if not any(sentence.startswith(begin) for sentence in page)] == []


NAMED = sorted({name for value in SHOWN.values() if "::" in value for name in value.split()})


@pytest.mark.parametrize("name", NAMED)
def test_the_test_is_there(name: str) -> None:
    file, _, function = name.partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in names


def test_files_that_are_named_are_there() -> None:
    for pattern in re.findall(r"`((?:tests|fuzz)/[\w/*.]*)`", TEXT):
        assert list(ROOT.glob(pattern.rstrip("/"))), pattern


def test_the_table_of_attacks_can_be_made() -> None:
    command = [sys.executable, "-m", "tests.hostile", "--seconds", "0.1", "--loop", "asyncio", "--wire", "plain"]
    run = subprocess.run([*command, "--only", "nothing"], cwd=ROOT, capture_output=True, text=True, check=True)
    head, row = run.stdout.splitlines()
    assert head.split()[0] == "attack"
    assert row.startswith("nothing, to compare with")
