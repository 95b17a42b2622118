"""Bytes for a socket that are no good request: broken HTTP, broken bodies, broken signatures, and good requests with a few bytes turned.

Owns: `Raw`, `raw_requests`. Never sends anything. The same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from typing import NamedTuple

from homeport.iam import sigv4
from homeport.testing import records

TARGET = b"AmazonEC2ContainerServiceV20141113."
TYPE = b"application/x-amz-json-1.1"
REFUSED = frozenset({b"400", b"413", b"431", b"408"})
ANYTHING = REFUSED | {b"200", b"403", b"404", b"405", b"426", b"100"}
"""What an answer may be when the bytes may be a good request after all (such as GET /health): everything but a fault of the server's."""


class Raw(NamedTuple):
    """Bytes for one connection, in pieces, and which statuses may come back."""

    kind: str
    pieces: tuple[bytes, ...]
    statuses: frozenset[bytes] = REFUSED
    answered: bool = True
    """Whether there must be an answer; a request that never ends gets none."""


def signed(operation: str, body: bytes, now: float, **headers: bytes) -> bytes:
    """A whole good request; `headers` (with _ for -) go over the usual ones, unsigned ones included."""
    covered = {b"host": b"h", b"content-type": TYPE, b"x-amz-target": TARGET + operation.encode()}
    covered |= {name.replace("_", "-").encode(): value for name, value in headers.items()}
    request = sigv4.Request("POST", b"/", b"", covered, hashlib.sha256(body).hexdigest())
    signature = sigv4.sign(request, sigv4.Credentials("AK", "secret", records.REGION), now)
    lines = [*covered.items(), *((name.encode(), value.encode()) for name, value in signature.items()), (b"content-length", b"%d" % len(body))]
    return b"POST / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n" + body


def raw_requests(seed: int, count: int, now: float) -> Iterator[Raw]:
    """`count` of them: the hand-made ones first, then turned bytes."""
    chance = random.Random(f"{seed} bytes")
    made = [*_heads(now), *_bodies(now), *_chunks(now), *_signatures(now)]
    yield from made[:count]
    for _ in range(max(0, count - len(made))):
        yield _turned(chance, now)


def _heads(now: float) -> Iterator[Raw]:
    """Heads that are no HTTP, or hardly."""
    good = signed("ListClusters", b"{}", now)
    for line in (
        b"",
        b"\r\n",
        b"\x00" * 64,
        b"\xff" * 200,
        b"GET",
        b"POST / HTTP/9.9",
        b"POST /",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"PRI * HTTP/2.0",
    ):
        yield Raw("first line", (line + b"\r\n\r\n",), ANYTHING, answered=False)
    for method in (b"GET", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"PATCH", b"BREW"):
        yield Raw("method", (good.replace(b"POST", method, 1),), answered=method != b"BREW")
    for path in (b"//", b"/x", b"/../../etc/passwd", b"/%00", b"/" + b"a" * 8000, b"/?" + b"b" * 8000, b"/health/", b"/acs", b"http://h/"):
        yield Raw("path", (good.replace(b"POST / ", b"POST " + path + b" ", 1),), ANYTHING)
    for target in (b"", b"X", TARGET, TARGET + b"NoSuch", TARGET + b"listclusters", b"A" * 5000, b"\xe2\x98\x83", TARGET + b"ListClusters\x00"):
        yield Raw("target", (good.replace(TARGET + b"ListClusters", target, 1),), answered=b"\x00" not in target)
    for kind in (b"", b"text/plain", b"application/json", b"application/x-www-form-urlencoded", b"application/cbor", b"\xff"):
        yield Raw("content type", (good.replace(TYPE, kind, 1),))
    for header in (
        b"no colon",
        b": no name",
        b"a b: c",
        b"X: \x00",
        b"X: " + b"a" * 70_000,
        b"X: a\r\n" * 5_000 + b"Y: b",
        b"Content-Length: 7",
        b"x\xff: y",
    ):
        yield Raw("header", (good.replace(b"\r\n", b"\r\n" + header + b"\r\n", 1),), ANYTHING, answered=False)
    for upgrade in (b"websocket", b"h2c", b"nothing"):
        more = b"Connection: Upgrade\r\nUpgrade: " + upgrade + b"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x\r\n"
        yield Raw("upgrade", (good.replace(b"\r\n", b"\r\n" + more, 1),), ANYTHING, answered=False)


def _bodies(now: float) -> Iterator[Raw]:
    """Good heads, and bodies that are no request."""
    for body in (
        b"",
        b"{",
        b"[]",
        b"null",
        b'"',
        b"\x00",
        b"\xff\xfe",
        b"{" * 100_000,
        b"[" * 100_000,
        b'{"clusters":[' + b'"a",' * 50_000 + b'"a"]}',
    ):
        yield Raw("body", (signed("DescribeClusters", body, now),), ANYTHING)
    yield Raw("too large", (signed("ListClusters", b" " * 1_048_577, now),))
    yield Raw("far too large", (signed("ListClusters", b"{}", now).replace(b"content-length: 2", b"content-length: 99999999999999", 1),))
    for length in (b"-1", b"x", b"1e3", b"0x2", b"", b"9" * 400, b"3", b"1", b"+2", b"2, 2"):
        shorter = signed("CreateCluster", b"{}", now).replace(b"content-length: 2", b"content-length: " + length, 1)
        yield Raw("length", (shorter,), answered=False)
    for cut in (1, 20, 100, 400):
        yield Raw("cut", (signed("CreateCluster", b'{"clusterName":"cut"}', now)[:-cut],), answered=False)


def _chunks(now: float) -> Iterator[Raw]:
    """Chunked bodies, good and bad."""
    for chunks in (
        b"zz\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}",
        b"-2\r\n{}\r\n",
        b"ffffffffffffffffff\r\n{}\r\n",
        b"2\r\n{}0\r\n\r\n",
        b"\r\n\r\n",
        b"2;" + b"e" * 9000,
    ):
        yield Raw("chunks", (_chunked("CreateCluster", b"{}", now) + chunks,), answered=False)
    yield Raw("chunks", (_chunked("ListClusters", b"{}", now) + b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\nTrailer: x\r\n\r\n",), ANYTHING, answered=False)
    yield Raw("chunks", (_chunked("CreateCluster", b"{}", now), b"3\r\n{ }\r\n", b"0\r\n\r\n"))  # a body other than the signed one
    endless = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    yield Raw("endless chunks", (_chunked("CreateCluster", b"{}", now), *[endless] * 20))
    both = _chunked("CreateCluster", b"{}", now).replace(b"transfer-encoding", b"content-length: 2\r\ntransfer-encoding", 1)
    yield Raw("length and chunks", (both + b"0\r\n\r\n",), answered=False)


def _chunked(operation: str, body: bytes, now: float) -> bytes:
    head = signed(operation, body, now).partition(b"\r\n\r\n")[0]
    return head.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked", 1) + b"\r\n\r\n"


def _signatures(now: float) -> Iterator[Raw]:
    """Requests of somebody else, of another time, or of nobody."""
    body = b'{"clusterName":"forged"}'
    good = signed("CreateCluster", body, now)
    yield Raw("old", (signed("CreateCluster", body, now - 4_000),))
    yield Raw("early", (signed("CreateCluster", body, now + 4_000),))
    yield Raw("other body", (good.replace(b"forged", b"FORGED"),))
    yield Raw("other target", (signed("ListClusters", b"{}", now).replace(b"ListClusters", b"CreateCluster"),))
    for old, new in ((b"Credential=AK/", b"Credential=XX/"), (b"/ecs/", b"/iam/"), (b"Signature=", b"Signature=0"), (b"AWS4-HMAC-SHA256", b"Basic")):
        yield Raw("signature", (good.replace(old, new, 1),))
    for value in (b"", b"AWS4-HMAC-SHA256", b"AWS4-HMAC-SHA256 Credential=", b"AWS4-HMAC-SHA256 " + b"," * 5_000, b"Bearer \xff", b"a=b=c," * 500):
        head, _, rest = good.partition(b"Authorization: ")
        yield Raw("authorization", (head + b"Authorization: " + value + b"\r\n" + rest.partition(b"\r\n")[2],))


def _turned(chance: random.Random, now: float) -> Raw:
    """A good request of which a few bytes are others, left out, twice there, or in another place."""
    body = chance.choice((b"{}", b'{"clusterName":"turned"}', b'{"clusterName":"turned","tags":[{"key":"a","value":"b"}]}'))
    data = bytearray(signed("CreateCluster", body, now))
    for _ in range(chance.choice((1, 1, 2, 5, 40))):
        at = chance.randrange(1, len(data) - 1)
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 20)]
            case 2:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 60)]
            case _:
                data[at] ^= 1 << chance.randrange(8)
        if len(data) < 3:
            break
    return Raw("turned bytes", (bytes(data),), ANYTHING, answered=False)
