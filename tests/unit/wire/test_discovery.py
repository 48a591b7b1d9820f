"""Discovery documents: one encoding, strict, and true to their key's name."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bistro.errors import BistroError, FormatError
from bistro.wire.discovery import (
    CALL_STATES,
    CallSummary,
    RelayDiscovery,
    ServedDestination,
    ServerDiscovery,
)
from tests.support.strategies import (
    BASE_URLS,
    CALL_IDS,
    HASHES,
    HOST_NAMES,
    INSTANTS,
    LINES,
    corrupted,
    note_key,
)
from tests.support.vectors import Vector, each_vector

SIZES = st.integers(0, 2**53 - 1)
PROTOCOLS = st.sets(st.integers(1, 9), min_size=1, max_size=3).map(sorted).map(tuple)
CALLS = st.builds(
    CallSummary,
    id=CALL_IDS,
    title=LINES,
    state=st.sampled_from(sorted(CALL_STATES)),
    opens=INSTANTS,
    closes=INSTANTS,
    terms=HASHES,
)
SERVERS = HOST_NAMES.flatmap(
    lambda name: st.builds(
        ServerDiscovery,
        name=st.just(name),
        terms_key=st.just(note_key(name).verifier),
        base_url=BASE_URLS,
        calls=st.lists(CALLS, max_size=3, unique_by=lambda call: call.id).map(tuple),
        protocols=PROTOCOLS,
        tickets_url=st.none() | BASE_URLS,
        rotations=st.lists(LINES, max_size=2).map(tuple),
    )
)
DESTINATIONS = st.builds(
    ServedDestination,
    server=HOST_NAMES,
    calls=st.lists(CALL_IDS, max_size=3, unique=True).map(tuple),
)
RELAYS = HOST_NAMES.flatmap(
    lambda name: st.builds(
        RelayDiscovery,
        name=st.just(name),
        operator=LINES,
        region=st.just("") | LINES,
        vkey=st.just(note_key(name).verifier),
        base_url=BASE_URLS,
        destinations=st.lists(DESTINATIONS, max_size=3, unique_by=lambda one: one.server).map(
            tuple
        ),
        free_bytes=SIZES,
        load=st.integers(0, 1_000),
        accepting=st.booleans(),
        protocols=PROTOCOLS,
    )
)


@each_vector("discovery-server", "valid")
def test_a_valid_server_document_decodes(vector: Vector) -> None:
    """Name and calls are those that the file says."""
    found = ServerDiscovery.decode(vector.data)
    assert (found.name, [call.id for call in found.calls]) == (vector["server"], vector["calls"])
    assert found.encode() == vector.data


@each_vector("discovery-relay", "valid")
def test_a_valid_relay_document_decodes(vector: Vector) -> None:
    """Name and destinations are those that the file says."""
    found = RelayDiscovery.decode(vector.data)
    assert found.name == vector["relay"]
    assert [served.server for served in found.destinations] == vector["servers"]
    assert found.encode() == vector.data


@each_vector("discovery-server", "invalid")
def test_a_bad_server_document_is_refused(vector: Vector) -> None:
    """With the code that the file gives."""
    with pytest.raises(BistroError) as caught:
        ServerDiscovery.decode(vector.data)
    assert caught.value.code == vector.code


@each_vector("discovery-relay", "invalid")
def test_a_bad_relay_document_is_refused(vector: Vector) -> None:
    """With the code that the file gives."""
    with pytest.raises(BistroError) as caught:
        RelayDiscovery.decode(vector.data)
    assert caught.value.code == vector.code


@given(SERVERS)
def test_decoding_undoes_encoding_of_servers(discovery: ServerDiscovery) -> None:
    """Nothing is lost, and equal values have equal bytes."""
    assert ServerDiscovery.decode(discovery.encode()) == discovery


@given(RELAYS)
def test_decoding_undoes_encoding_of_relays(discovery: RelayDiscovery) -> None:
    """Nothing is lost, and equal values have equal bytes."""
    assert RelayDiscovery.decode(discovery.encode()) == discovery


@given(st.binary(max_size=200) | corrupted(SERVERS.map(ServerDiscovery.encode)))
def test_any_bytes_are_a_server_document_or_malformed(data: bytes) -> None:
    """No other error leaves the decoder, and what decodes had that encoding."""
    with contextlib.suppress(FormatError):
        assert ServerDiscovery.decode(data).encode() == data


@given(st.binary(max_size=200) | corrupted(RELAYS.map(RelayDiscovery.encode)))
def test_any_bytes_are_a_relay_document_or_malformed(data: bytes) -> None:
    """No other error leaves the decoder, and what decodes had that encoding."""
    with contextlib.suppress(FormatError):
        assert RelayDiscovery.decode(data).encode() == data


@given(SERVERS, CALL_IDS)
def test_a_call_is_found_by_its_id(discovery: ServerDiscovery, other: str) -> None:
    """An id that is not listed finds nothing."""
    for call in discovery.calls:
        assert discovery.call(call.id) is call
    if other not in {call.id for call in discovery.calls}:
        assert discovery.call(other) is None


@given(RELAYS, HOST_NAMES)
def test_a_relay_says_whom_it_serves(discovery: RelayDiscovery, other: str) -> None:
    """A destination that is not listed is not served."""
    assert all(discovery.serves(served.server) for served in discovery.destinations)
    listed = {served.server for served in discovery.destinations}
    assert discovery.serves(other) == (other in listed)
