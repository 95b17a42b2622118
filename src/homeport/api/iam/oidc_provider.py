"""Operations on OpenID Connect providers: whose tokens an account takes.

Owns: create, get, delete, list; audiences, thumbprints, tags. Never calls an issuer: that is done when a token comes (`api/sts/issuer.py`).
Source: the IAM API reference, "Create an OpenID Connect (OIDC) identity provider in IAM", IAM's quotas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from homeport.api.call import Call, Handler
from homeport.api.iam import entity
from homeport.config import local_issuers_of
from homeport.errors import EntityAlreadyExistsError, IamLimitExceededError, InvalidInputError, NoSuchEntityError
from homeport.model import arn
from homeport.model.iam.oidc_provider import CLIENT_IDS_MAX, PROVIDERS_MAX, THUMBPRINTS_MAX, OidcProvider
from homeport.store.table import Reader, Transaction
from homeport.store.tables import OIDC_PROVIDERS

_NOUN: Final = "oidc-provider/"
_THUMBPRINT: Final = re.compile(r"[0-9A-Fa-f]{40}")
_URL: Final = re.compile(r"https?://[A-Za-z0-9.-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~%/+-]*)?")


def find(reader: Reader, call: Call, provider_arn: str) -> OidcProvider:
    """The account's provider of that ARN. Raises InvalidInputError for what is no such ARN, NoSuchEntityError."""
    parsed = arn.parse_arn(provider_arn)
    if parsed is None or parsed.service != "iam" or not parsed.resource.startswith(_NOUN):
        raise InvalidInputError(f"Invalid ARN: {provider_arn}")
    record = reader.get(OIDC_PROVIDERS, f"{call.account}/{parsed.resource.removeprefix(_NOUN)}") if parsed.account == call.account else None
    if record is None:
        raise NoSuchEntityError(f"OpenIDConnect Provider not found for arn {provider_arn}")
    return record


async def create_open_id_connect_provider(call: Call, request: Any) -> dict[str, Any]:
    """CreateOpenIDConnectProvider. Without thumbprints none are fetched: certificates are checked against the trusted authorities."""
    issuer = _issuer(request.Url, call.context.settings.web_identity_local_issuers)
    made = OidcProvider(
        account=call.account,
        issuer=issuer,
        created_at=0.0,
        client_ids=_client_ids(request.ClientIDList or ()),
        thumbprints=_thumbprints(request.ThumbprintList or ()),
        tags=entity.tags_of(request.Tags),
    )

    def create(tx: Transaction) -> None:
        if tx.get(OIDC_PROVIDERS, made.key) is not None:
            raise EntityAlreadyExistsError(f"Provider with url {issuer} already exists.")
        if tx.count(OIDC_PROVIDERS, "account", call.account) >= PROVIDERS_MAX:
            raise IamLimitExceededError(f"Cannot exceed quota for OpenIdConnectProvidersPerAccount: {PROVIDERS_MAX}")
        tx.put(OIDC_PROVIDERS, msgspec.structs.replace(made, created_at=tx.now))

    await call.update(create)
    return {"OpenIDConnectProviderArn": arn.oidc_provider_arn(call.account, made.name), "Tags": entity.tags_json(made.tags)}


async def get_open_id_connect_provider(call: Call, request: Any) -> dict[str, Any]:
    """GetOpenIDConnectProvider. Its URL comes without `https://`, as IAM tells it."""
    found = await call.view(lambda reader: find(reader, call, request.OpenIDConnectProviderArn))
    return {
        "Url": found.name,
        "ClientIDList": list(found.client_ids),
        "ThumbprintList": list(found.thumbprints),
        "CreateDate": int(found.created_at),
        "Tags": entity.tags_json(found.tags) or [],
    }


async def delete_open_id_connect_provider(call: Call, request: Any) -> dict[str, Any]:
    """DeleteOpenIDConnectProvider: its tokens are refused from then on. Roles that name it stay; one that is gone already is no error."""

    def delete(tx: Transaction) -> None:
        try:
            tx.delete(OIDC_PROVIDERS, find(tx, call, request.OpenIDConnectProviderArn).key)
        except NoSuchEntityError:
            return

    await call.update(delete)
    return {}


async def list_open_id_connect_providers(call: Call, request: Any) -> dict[str, Any]:
    """ListOpenIDConnectProviders: all of the account."""
    found = await call.view(lambda reader: sorted(each.name for each in reader.find(OIDC_PROVIDERS, "account", call.account)))
    return {"OpenIDConnectProviderList": [{"Arn": arn.oidc_provider_arn(call.account, name)} for name in found]}


def _changing(change: Callable[[OidcProvider, Any], OidcProvider]) -> Handler:
    """A handler that puts what `change` makes of a provider; `change(provider, request)`."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        await call.update(lambda tx: tx.put(OIDC_PROVIDERS, change(find(tx, call, request.OpenIDConnectProviderArn), request)))
        return {}

    return handle


def _with_client_id(provider: OidcProvider, request: Any) -> OidcProvider:
    return msgspec.structs.replace(provider, client_ids=_client_ids((*provider.client_ids, request.ClientID)))


def _without_client_id(provider: OidcProvider, request: Any) -> OidcProvider:
    return msgspec.structs.replace(provider, client_ids=tuple(each for each in provider.client_ids if each != request.ClientID))


def _without_tags(provider: OidcProvider, request: Any) -> OidcProvider:
    keys = {key.lower() for key in request.TagKeys}
    return msgspec.structs.replace(provider, tags=tuple(each for each in provider.tags if each[0].lower() not in keys))


async def list_open_id_connect_provider_tags(call: Call, request: Any) -> dict[str, Any]:
    """ListOpenIDConnectProviderTags, by key."""

    def read(reader: Reader) -> dict[str, Any]:
        provider = find(reader, call, request.OpenIDConnectProviderArn)
        tags, more = entity.page(call, request, sorted(provider.tags), key=lambda each: each[0], filters=(provider.key,))
        return {"Tags": entity.tags_json(tuple(tags)) or [], **more}

    return await call.view(read)


OPERATIONS: Final[dict[str, Handler]] = {
    "CreateOpenIDConnectProvider": create_open_id_connect_provider,
    "GetOpenIDConnectProvider": get_open_id_connect_provider,
    "DeleteOpenIDConnectProvider": delete_open_id_connect_provider,
    "ListOpenIDConnectProviders": list_open_id_connect_providers,
    "AddClientIDToOpenIDConnectProvider": _changing(_with_client_id),
    "RemoveClientIDFromOpenIDConnectProvider": _changing(_without_client_id),
    "UpdateOpenIDConnectProviderThumbprint": _changing(
        lambda provider, request: msgspec.structs.replace(provider, thumbprints=_thumbprints(request.ThumbprintList))
    ),
    "TagOpenIDConnectProvider": _changing(
        lambda provider, request: msgspec.structs.replace(provider, tags=entity.tags_of(request.Tags, provider.tags))
    ),
    "UntagOpenIDConnectProvider": _changing(_without_tags),
    "ListOpenIDConnectProviderTags": list_open_id_connect_provider_tags,
}


def _issuer(url: str, local_issuers: str) -> str:
    """The URL as an issuer. Raises InvalidInputError for one that no issuer may have here."""
    if _URL.fullmatch(url) is None:
        raise InvalidInputError("Invalid Open ID Connect Provider URL")
    parts = urlsplit(url)
    if parts.netloc.lower() in local_issuers_of(local_issuers):
        return url
    if parts.scheme != "https":
        raise InvalidInputError("Invalid Open ID Connect Provider URL: it must begin with https://")
    # Condition keys begin with the host's name, and one without a dot could be the name of a service.
    if "." not in parts.netloc:
        raise InvalidInputError("Invalid Open ID Connect Provider URL: its host is no domain name")
    return url


def _client_ids(given: Sequence[str]) -> tuple[str, ...]:
    """Each once. Raises IamLimitExceededError above 100."""
    found = tuple(dict.fromkeys(given))
    if len(found) > CLIENT_IDS_MAX:
        raise IamLimitExceededError(f"Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {CLIENT_IDS_MAX}")
    return found


def _thumbprints(given: Sequence[str]) -> tuple[str, ...]:
    """Raises InvalidInputError for more than five, or one that is no SHA-1 in hexadecimal digits."""
    if len(given) > THUMBPRINTS_MAX:
        raise InvalidInputError(f"Thumbprint list must contain fewer than {THUMBPRINTS_MAX + 1} entries.")
    if any(_THUMBPRINT.fullmatch(each) is None for each in given):
        raise InvalidInputError("Thumbprint must be exactly 40 hexadecimal digits.")
    return tuple(dict.fromkeys(each.lower() for each in given))
