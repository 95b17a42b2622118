"""How a host proves that it is the one that joined: a signature of its own key over what it asks, and when.

Owns: the text that is signed, keys, signing and checking (Ed25519). Pure. Never decides what a proof is good for.
The library comes in at the first use: an agent, which proves itself once in a while, does it in a process of its own (`homeport.agent.proof`).
"""

from __future__ import annotations

from typing import Final

JOIN: Final = "join"
RENEW: Final = "renew"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


def text(purpose: str, *, installation: str, subject: str, instant_ms: int) -> bytes:
    """What is signed. `subject`: the token's id for `JOIN`, the identity's for `RENEW`; `instant_ms`: milliseconds since the epoch."""
    return f"homeport {purpose} 1\n{installation}\n{subject}\n{instant_ms}\n".encode()


def new_key() -> bytes:
    """A private key: 32 bytes from the operating system."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_of(private: bytes) -> bytes:
    """The public half, 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def made(private: bytes, message: bytes) -> bytes:
    """The proof: a signature of 64 bytes over `message`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private).sign(message)


def holds(public: bytes, message: bytes, proof: bytes) -> bool:
    """Whether `proof` was made over `message` by who has the private half of `public`."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(proof, message)
    except (InvalidSignature, ValueError):
        return False
    return True
