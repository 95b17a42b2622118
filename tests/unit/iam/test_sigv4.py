"""Signatures against botocore's own signer, and every way in which one can be wrong."""

from __future__ import annotations

import datetime
import hashlib
from urllib.parse import quote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.compat
import botocore.credentials
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.errors import ApiError, IncompleteSignatureError, InvalidSignatureError, MissingAuthenticationTokenError
from homeport.iam import sigv4

KEY, SECRET, REGION = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"
CREDENTIALS = sigv4.Credentials(KEY, SECRET, REGION)
NOW = 1_764_000_000.0


class _FixedDate(botocore.auth.SigV4Auth):
    """botocore's signer with the clock stopped at NOW."""

    def add_auth(self, request):
        request.context["timestamp"] = sigv4.amz_date(NOW)
        self._modify_request_before_signing(request)
        canonical = self.canonical_request(request)
        self._inject_signature_to_request(request, self.signature(self.string_to_sign(request, canonical), request))


def by_botocore(method: str, url: str, headers: dict[str, str], body: bytes) -> dict[bytes, bytes]:
    """The headers of the request as botocore signs it, as a server would receive them."""
    request = botocore.awsrequest.AWSRequest(method=method, url=url, data=body, headers=headers)
    _FixedDate(botocore.credentials.Credentials(KEY, SECRET), "ecs", REGION).add_auth(request)
    received = {name.lower().encode(): value.encode() for name, value in request.headers.items()}
    received.setdefault(b"host", urlsplit(url).netloc.encode())
    return received


def check(method: str, url: str, headers: dict[bytes, bytes], body: bytes, now: float = NOW) -> None:
    parts = urlsplit(url)
    request = sigv4.Request(method, parts.path.encode(), parts.query.encode(), headers, hashlib.sha256(body).hexdigest())
    authorization = sigv4.read_authorization(headers)
    sigv4.check_scope(authorization, region=REGION, service="ecs")
    sigv4.verify(request, authorization, secret=SECRET, now=now, skew_seconds=300)


def by_us(method: str, url: str, body: bytes = b"{}", credentials: sigv4.Credentials = CREDENTIALS, now: float = NOW) -> dict[bytes, bytes]:
    parts = urlsplit(url)
    headers = {b"host": parts.netloc.encode(), b"x-amz-target": b"T.ListClusters"}
    request = sigv4.Request(method, parts.path.encode(), parts.query.encode(), headers, hashlib.sha256(body).hexdigest())
    return {**headers, **{name.lower().encode(): value.encode() for name, value in sigv4.sign(request, credentials, now).items()}}


segments = st.lists(st.one_of(st.text(max_size=8), st.sampled_from([".", "..", "", "a b", "ü", "%", "~", "a+b", "*"])), max_size=5)
pairs = st.lists(st.tuples(st.text(min_size=1, max_size=8), st.text(max_size=8)), max_size=5)
header_values = st.text(st.characters(codec="ascii", exclude_categories=["Cc"], include_characters="\t"), max_size=30)


@given(
    segments=segments, slash=st.booleans(), pairs=pairs, header=header_values, body=st.binary(max_size=100), method=st.sampled_from(["GET", "POST"])
)
def test_what_botocore_signs_is_verified_and_signed_alike(segments, slash, pairs, header, body, method):
    path = "/" + "/".join(quote(segment.encode("utf-8", "surrogatepass"), safe="~") for segment in segments) + ("/" if slash else "")
    query = "&".join(
        f"{quote(n.encode('utf-8', 'surrogatepass'), safe='-_.~')}={quote(v.encode('utf-8', 'surrogatepass'), safe='-_.~')}" for n, v in pairs
    )
    url = f"http://127.0.0.1:8470{path}" + (f"?{query}" if query else "")
    headers = by_botocore(method, url, {"X-Amz-Target": "A.B", "X-Odd": header}, body)
    check(method, url, headers, body)
    parts = urlsplit(url)
    bare = {name: value for name, value in headers.items() if name not in (b"authorization", b"x-amz-date")}
    request = sigv4.Request(method, parts.path.encode(), parts.query.encode(), bare, hashlib.sha256(body).hexdigest())
    assert sigv4.sign(request, CREDENTIALS, NOW)["Authorization"].encode() == headers[b"authorization"]


def test_several_headers_of_one_name_and_inner_blanks():
    url = "http://localhost/"
    headers = by_botocore("POST", url, {"X-List": "a,b", "X-Blank": "  a   b  "}, b"")
    check("POST", url, {**headers, b"x-blank": b"a b"}, b"")
    check("POST", url, {**headers, b"x-blank": b"   a \t b"}, b"")


def test_a_websocket_handshake_signed_by_us_is_what_botocore_would_sign():
    url = "http://127.0.0.1:8470/acs/ws?cluster=default&containerInstanceArn=arn%3Aaws%3Aecs%3Aus-east-1%3A1%3Acontainer-instance%2Fdefault%2Fa&seqNum=1"
    ours = by_us("GET", url, b"")
    assert ours[b"authorization"] == by_botocore("GET", url, {"X-Amz-Target": "T.ListClusters"}, b"")[b"authorization"]
    check("GET", url, ours, b"")


def test_the_published_example_of_the_aws_general_reference():
    headers = {
        b"host": b"iam.amazonaws.com",
        b"content-type": b"application/x-www-form-urlencoded; charset=utf-8",
    }
    request = sigv4.Request("GET", b"/", b"Action=ListUsers&Version=2010-05-08", headers, sigv4.EMPTY_BODY_SHA256)
    at = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp()
    signed = sigv4.sign(request, sigv4.Credentials(KEY, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "iam"), at)
    assert signed == {
        "X-Amz-Date": "20150830T123600Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"{ }"},
        {"method": "PUT"},
        {"url": "http://h/other"},
        {"url": "http://h/?a=1"},
        {"header": (b"x-amz-target", b"T.DeleteCluster")},
        {"header": (b"host", b"elsewhere")},
        {"header": (b"x-amz-date", sigv4.amz_date(NOW + 1).encode())},
        {"header": (b"x-amz-target", None)},
    ],
)
def test_a_changed_request_does_not_verify(change):
    headers = by_us("POST", "http://h/")
    if "header" in change:
        name, value = change["header"]
        headers = {key: content for key, content in {**headers, name: value}.items() if content is not None}
    with pytest.raises(InvalidSignatureError, match="does not match the signature you provided"):
        check(change.get("method", "POST"), change.get("url", "http://h/"), headers, change.get("body", b"{}"))


def test_any_changed_digit_of_the_signature_is_refused():
    headers = by_us("POST", "http://h/")
    text, signature = headers[b"authorization"].split(b"Signature=")
    for position in range(0, 64, 7):
        digit = b"0" if signature[position : position + 1] != b"0" else b"1"
        altered = signature[:position] + digit + signature[position + 1 :]
        with pytest.raises(InvalidSignatureError):
            check("POST", "http://h/", {**headers, b"authorization": text + b"Signature=" + altered}, b"{}")
    for wrong in (b"", b"0" * 64, signature.upper(), signature + b"0", "é".encode() * 32):
        with pytest.raises(InvalidSignatureError):
            check("POST", "http://h/", {**headers, b"authorization": text + b"Signature=" + wrong}, b"{}")


def test_another_key_or_secret_gives_another_signature():
    with pytest.raises(InvalidSignatureError):
        check("POST", "http://h/", by_us("POST", "http://h/", credentials=CREDENTIALS._replace(secret_access_key="x")), b"{}")


@pytest.mark.parametrize("offset", [-300, -299, 0, 299, 300])
def test_a_date_within_the_skew_is_accepted(offset):
    check("POST", "http://h/", by_us("POST", "http://h/", now=NOW + offset), b"{}")


def test_a_date_beyond_the_skew_is_told_with_the_times():
    with pytest.raises(InvalidSignatureError) as late:
        check("POST", "http://h/", by_us("POST", "http://h/", now=NOW - 301), b"{}")
    assert late.value.message == "Signature expired: 20251124T155459Z is now earlier than 20251124T155500Z (20251124T160000Z - 5 min.)"
    with pytest.raises(InvalidSignatureError) as early:
        check("POST", "http://h/", by_us("POST", "http://h/", now=NOW + 301), b"{}")
    assert early.value.message == "Signature not yet current: 20251124T160501Z is still later than 20251124T160500Z (20251124T160000Z + 5 min.)"


def test_the_scope_must_fit_region_service_and_day():
    with pytest.raises(InvalidSignatureError, match="valid region"):
        check("POST", "http://h/", by_us("POST", "http://h/", credentials=CREDENTIALS._replace(region="us-west-2")), b"{}")
    with pytest.raises(InvalidSignatureError, match="correct service: 'ecs'"):
        check("POST", "http://h/", by_us("POST", "http://h/", credentials=CREDENTIALS._replace(service="s3")), b"{}")
    headers = by_us("POST", "http://h/")
    with pytest.raises(InvalidSignatureError, match="Date in Credential scope does not match"):
        check("POST", "http://h/", {**headers, b"authorization": headers[b"authorization"].replace(b"/20251124/", b"/20251123/")}, b"{}")
    with pytest.raises(InvalidSignatureError, match="valid terminator"):
        check("POST", "http://h/", {**headers, b"authorization": headers[b"authorization"].replace(b"aws4_request", b"aws5_request")}, b"{}")


WHOLE = "AWS4-HMAC-SHA256 Credential=AK/20251124/eu-central-1/ecs/aws4_request, SignedHeaders=host;x-amz-date, Signature=00"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("Bearer abc", "Unsupported AWS 'algorithm': 'Bearer'"),
        ("AWS4-HMAC-SHA256", "requires 'Credential' parameter. Authorization header requires 'SignedHeaders' parameter."),
        ("AWS4-HMAC-SHA256 nonsense", "'nonsense' not a valid key=value pair"),
        (WHOLE.replace("Credential=", "Credentials="), "requires 'Credential' parameter"),
        (WHOLE.replace("SignedHeaders=", "Signed="), "requires 'SignedHeaders' parameter"),
        (WHOLE.replace("Signature=00", ""), "requires 'Signature' parameter"),
        (WHOLE.replace("AK/2025", "AK2025"), "exactly 5 slash-delimited elements"),
        (WHOLE.replace("host;", ""), "'Host' or ':authority' must be a 'SignedHeader'"),
        (WHOLE.replace(";x-amz-date", ""), "'X-Amz-Date' must be a 'SignedHeader'"),
        ("AWS4-HMAC-SHA256 " + "x" * 5000, "longer than"),
        ("AWS4-HMAC-SHA256 é=é", "requires 'Credential' parameter"),
    ],
)
def test_a_malformed_header_is_incomplete(header, message):
    headers = {b"authorization": header.encode(), b"x-amz-date": b"20251124T160000Z", b"host": b"h"}
    with pytest.raises(IncompleteSignatureError) as refused:
        check("POST", "http://h/", headers, b"{}")
    assert message in refused.value.message


def test_an_unsigned_target_is_incomplete():
    headers = {b"authorization": WHOLE.encode(), b"x-amz-date": b"20251124T160000Z", b"host": b"h", b"x-amz-target": b"T.X"}
    with pytest.raises(IncompleteSignatureError, match="'X-Amz-Target' must be a 'SignedHeader'"):
        sigv4.read_authorization(headers)


@pytest.mark.parametrize("date", ["", "yesterday", "20251324T160000Z", "2025-11-24T16:00:00Z", "20251124T160000z", "２0251124T160000Z"])
def test_a_date_that_is_none_is_incomplete(date):
    headers = {**by_us("POST", "http://h/"), b"x-amz-date": date.encode()}
    with pytest.raises(IncompleteSignatureError):
        check("POST", "http://h/", headers, b"{}")


def test_no_header_is_no_token_and_no_date_is_incomplete():
    with pytest.raises(MissingAuthenticationTokenError):
        sigv4.read_authorization({})
    with pytest.raises(IncompleteSignatureError, match="'X-Amz-Date' or a 'Date'"):
        sigv4.read_authorization({b"authorization": WHOLE.encode()})


def test_signature_need_not_come_last_and_a_key_id_may_hold_slashes():
    header = "AWS4-HMAC-SHA256 Signature=ab,SignedHeaders=Host;x-amz-date,Credential=my/key/20251124/r/ecs/aws4_request"
    read = sigv4.read_authorization({b"authorization": header.encode(), b"x-amz-date": b"x"})
    assert read == sigv4.Authorization("my/key", "20251124", "r", "ecs", (b"host", b"x-amz-date"), b"ab")


def test_a_date_header_will_do_when_it_is_signed():
    headers = {b"host": b"h", b"date": sigv4.amz_date(NOW).encode()}
    authorization = sigv4.Authorization(KEY, "20251124", REGION, "ecs", (b"date", b"host"), b"")
    request = sigv4.Request("GET", b"/", b"", headers, sigv4.EMPTY_BODY_SHA256)
    signature = sigv4._signature(request, authorization, SECRET, sigv4.amz_date(NOW))
    text = f"AWS4-HMAC-SHA256 Credential={KEY}/{authorization.scope}, SignedHeaders=date;host, Signature={signature}"
    check("GET", "http://h/", {**headers, b"authorization": text.encode()}, b"")
    with pytest.raises(IncompleteSignatureError, match="'Date' must be"):
        check("GET", "http://h/", {**headers, b"authorization": text.replace("date;host", "host").encode()}, b"")


def test_a_content_hash_must_be_the_body_s():
    good = hashlib.sha256(b"{}").hexdigest()
    headers = by_botocore("POST", "http://h/", {"X-Amz-Content-SHA256": good}, b"{}")
    check("POST", "http://h/", headers, b"{}")
    unsigned = by_botocore("POST", "http://h/", {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}, b"{}")
    with pytest.raises(InvalidSignatureError):
        check("POST", "http://h/", unsigned, b"{}")


@given(st.binary(max_size=200), st.binary(max_size=40), st.binary(max_size=40))
def test_no_header_whatever_breaks_the_reader(authorization, date, other):
    headers = {b"authorization": b"AWS4-HMAC-SHA256 " + authorization, b"x-amz-date": date, b"x": other, b"host": b"h"}
    with pytest.raises(ApiError):
        check("POST", "http://h/", headers, b"")
