"""The quotas that accounts have of their own, kept beside the store.

Owns: `Accounts`, a view derived from the table of accounts. Never counts anything and never refuses.
"""

from __future__ import annotations

import msgspec

from homeport.config import QUOTAS, Settings
from homeport.model.account import Account
from homeport.model.record import Record


class Accounts:
    """Settings by account (a `Derived` view): for all but a few accounts, those of the installation as they are."""

    def __init__(self) -> None:
        self._quotas: dict[str, dict[str, int]] = {}
        self._settings: dict[str, Settings] = {}

    def change(self, table: str, before: Record | None, after: Record | None) -> None:
        """Follow the store; records of other tables are passed over."""
        account = after or before
        if not isinstance(account, Account):
            return
        self._settings.pop(account.id, None)
        # A quota that a later version had, or an earlier one, is none here.
        quotas = {name: value for name, value in account.quotas if name in QUOTAS} if after is not None else {}
        if quotas:
            self._quotas[account.id] = quotas
        else:
            self._quotas.pop(account.id, None)

    def settings(self, account: str, of_installation: Settings) -> Settings:
        """`of_installation` with the account's own quotas over it."""
        quotas = self._quotas.get(account)
        if quotas is None:
            return of_installation
        known = self._settings.get(account)
        if known is None:
            known = self._settings[account] = msgspec.structs.replace(of_installation, **quotas)
        return known
