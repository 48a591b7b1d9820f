"""Digests in bulk are CBC-MACs, one by one, of length-prefixed texts."""

from concurrent.futures import ThreadPoolExecutor

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from bistro.crypto.bulkmac import BulkMac

SECRET = bytes(range(16))


def cbc_mac(secret: bytes, text: bytes) -> bytes:
    """As a textbook has it."""
    data = len(text).to_bytes(2, "big") + text
    data += bytes(-len(data) % 16)
    encryptor = Cipher(algorithms.AES128(secret), modes.CBC(bytes(16))).encryptor()
    return encryptor.update(data)[-16:]


@given(st.lists(st.binary(max_size=100), max_size=20))
def test_every_digest_is_a_cbc_mac(texts: list[bytes]) -> None:
    """Whatever the sizes, in the order of the texts, also where some are equal."""
    texts += texts[:2]
    assert BulkMac(SECRET).digests(texts) == [cbc_mac(SECRET, text) for text in texts]


def test_another_secret_makes_other_digests() -> None:
    """Nobody who lacks it can choose a text for its digest."""
    texts = [b"a" * size for size in range(60)]
    digests = BulkMac(SECRET).digests(texts)
    assert not set(digests) & set(BulkMac(bytes(16)).digests(texts))
    assert len(set(digests)) == 60


def test_threads_share_one_without_mixing_their_texts() -> None:
    """The loop asks for new keys while a thread digests published ones."""
    mac = BulkMac(SECRET)
    lots = [[bytes([lot]) * 33 + bytes([at]) for at in range(64)] for lot in range(32)]
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(mac.digests, lots))
    assert found == [[cbc_mac(SECRET, text) for text in lot] for lot in lots]
