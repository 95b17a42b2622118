"""Whatever a token or a key set holds, it is taken or refused by name: nothing of it ends a call in an error of the server's own."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from homeport.errors import ApiError, IdpRejectedClaimError, InvalidIdentityTokenError, WebIdentityExpiredError
from homeport.iam import web_identity

REFUSALS = (InvalidIdentityTokenError, WebIdentityExpiredError, IdpRejectedClaimError)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
TEXTS = st.sampled_from(["AQAB", "x" * 342, "A" * 43, "", "=", "ü", "AA"])
ALGORITHM = st.sampled_from([*web_identity.ALGORITHMS, "none", "HS256", "PS256", ""])
KEY = st.fixed_dictionaries(
    {},
    optional={
        "kty": st.sampled_from(["RSA", "EC", "oct", "OKP"]) | ANYTHING,
        "kid": st.just("k") | ANYTHING,
        "use": st.sampled_from(["sig", "enc"]) | ANYTHING,
        "alg": ALGORITHM | ANYTHING,
        "crv": st.sampled_from(["P-256", "P-384", "P-521", "secp256k1"]) | ANYTHING,
        "oth": ANYTHING,
        **dict.fromkeys(("n", "e", "x", "y", "k"), TEXTS | ANYTHING),
    },
)
CLAIMS = st.fixed_dictionaries(
    {"iss": st.just("https://issuer.example.com")},
    optional={
        "sub": st.just("me") | ANYTHING,
        "aud": st.sampled_from(["c", ["c"], ["c", "d"]]) | ANYTHING,
        "azp": st.just("c") | ANYTHING,
        **{name: st.integers(-10, 2**40) | ANYTHING for name in ("exp", "iat", "nbf")},
        "amr": ANYTHING,
        "https://aws.amazon.com/tags": ANYTHING | st.fixed_dictionaries({}, optional={"principal_tags": ANYTHING, "transitive_tag_keys": ANYTHING}),
        "https://aws.amazon.com/source_identity": ANYTHING,
        "x": ANYTHING,
    },
)


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@given(st.text(max_size=200) | st.lists(ANYTHING, min_size=3, max_size=3).map(lambda parts: ".".join(map(encoded, parts))))
def test_any_text_is_a_token_or_is_refused(text):
    with contextlib.suppress(InvalidIdentityTokenError):
        web_identity.read(text)


@given(ALGORITHM, st.just("k") | ANYTHING, CLAIMS, ANYTHING | st.fixed_dictionaries({"keys": st.lists(KEY | ANYTHING, max_size=3)}))
def test_any_key_set_proves_nothing(algorithm, key_id, claims, document):
    keys = ()
    with contextlib.suppress(ValueError):
        keys = web_identity.key_set(json.loads(json.dumps(document)))
    header = {"alg": algorithm, "kid": key_id}
    try:
        token = web_identity.read(f"{encoded(header)}.{encoded(claims)}.{encoded('x')}")
        key = web_identity.chosen(token, keys)
        if key is not None:
            web_identity.proven(token, key, client_ids=("c",), now=1_700_000_000.0)
            raise AssertionError("nobody signed it")
    except REFUSALS:
        pass


@given(CLAIMS)
def test_any_claims_are_read_or_refused(claims):
    token = web_identity.Token("", "RS256", "k", claims["iss"], claims)
    try:
        web_identity._require_time(claims, 1_700_000_000.0)
        found = web_identity._claims(token, ("c",))
    except ApiError as error:
        assert isinstance(error, REFUSALS)
        return
    assert found.audience == "c"
    assert all(isinstance(value, str | tuple) for value in found.keys.values())
    assert all(key.startswith("issuer.example.com:") for key in found.keys)
