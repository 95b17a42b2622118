"""What no user here has: console passwords, second factors, SSH keys, signing certificates, credentials of other services, SAML.

Owns: the truthful answers to whoever looks for them, as Terraform does before it deletes a user: empty lists, and NoSuchEntity for each one named.
Making one is not built, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from homeport.api.call import Call, Handler
from homeport.api.iam.entity import USER
from homeport.api.iam.user import own_name
from homeport.errors import NoSuchEntityError
from homeport.model import arn
from homeport.store.table import Reader


def _require_user(reader: Reader, call: Call, name: str | None) -> str:
    """The name of whom a request is about; an account's root, who asks for itself, by the account's id. Raises NoSuchEntityError."""
    if name is None and call.principal_arn == arn.root_arn(call.account):
        return call.account
    return str(USER.find(reader, call.account, name or own_name(call)).name)


def _none_of_user(member: str) -> Handler:
    """A list of a user's, which is empty."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        if not getattr(request, "AllUsers", None):
            await call.view(lambda reader: _require_user(reader, call, request.UserName))
        return {member: [], "IsTruncated": False}

    return handle


def _none(member: str) -> Handler:
    """A list of the account's, which is empty."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        return {member: []}

    return handle


def _missing(words: Callable[[Call, str, Any], str], *, of_user: bool = True) -> Handler:
    """An operation on one by name; `words(call, user, request)` say that it is not there."""

    async def handle(call: Call, request: Any) -> dict[str, Any]:
        name = await call.view(lambda reader: _require_user(reader, call, getattr(request, "UserName", None))) if of_user else ""
        raise NoSuchEntityError(words(call, name, request))

    return handle


_LOGIN: Final = _missing(lambda _call, name, _request: f"Login Profile for User {name} cannot be found.")
_DEVICE: Final = _missing(lambda _call, _name, request: f"MFA Device with serial number {request.SerialNumber} does not exist.", of_user=False)
_SSH: Final = _missing(lambda _call, _name, request: f"The Public Key with id {request.SSHPublicKeyId} cannot be found.")
_SIGNING: Final = _missing(lambda _call, _name, request: f"The Certificate with id {request.CertificateId} cannot be found.")
_SERVER: Final = _missing(
    lambda _call, _name, request: f"The Server Certificate with name {request.ServerCertificateName} cannot be found.", of_user=False
)
_SAML: Final = _missing(lambda _call, _name, request: f"Manifest not found for arn {request.SAMLProviderArn}", of_user=False)
_PASSWORDS: Final = _missing(lambda call, _name, _request: f"The Password Policy with domain name {call.account} cannot be found.", of_user=False)
_CREDENTIAL: Final = _missing(lambda _call, _name, request: f"No such credential {request.ServiceSpecificCredentialId} exists")

OPERATIONS: Final[dict[str, Handler]] = {
    "ListMFADevices": _none_of_user("MFADevices"),
    "ListVirtualMFADevices": _none("VirtualMFADevices"),
    "ListSSHPublicKeys": _none_of_user("SSHPublicKeys"),
    "ListSigningCertificates": _none_of_user("Certificates"),
    "ListServiceSpecificCredentials": _none_of_user("ServiceSpecificCredentials"),
    "ListServerCertificates": _none("ServerCertificateMetadataList"),
    "ListSAMLProviders": _none("SAMLProviderList"),
    "GetLoginProfile": _LOGIN,
    "UpdateLoginProfile": _LOGIN,
    "DeleteLoginProfile": _LOGIN,
    "GetMFADevice": _DEVICE,
    "ListMFADeviceTags": _DEVICE,
    "ResyncMFADevice": _DEVICE,
    "DeactivateMFADevice": _DEVICE,
    "DeleteVirtualMFADevice": _DEVICE,
    "GetSSHPublicKey": _SSH,
    "UpdateSSHPublicKey": _SSH,
    "DeleteSSHPublicKey": _SSH,
    "UpdateSigningCertificate": _SIGNING,
    "DeleteSigningCertificate": _SIGNING,
    "UpdateServiceSpecificCredential": _CREDENTIAL,
    "ResetServiceSpecificCredential": _CREDENTIAL,
    "DeleteServiceSpecificCredential": _CREDENTIAL,
    "GetServerCertificate": _SERVER,
    "DeleteServerCertificate": _SERVER,
    "GetSAMLProvider": _SAML,
    "DeleteSAMLProvider": _SAML,
    "GetAccountPasswordPolicy": _PASSWORDS,
    "DeleteAccountPasswordPolicy": _PASSWORDS,
}
