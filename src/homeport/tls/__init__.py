"""TLS: the installation's own certificate authority, what a server shows and whom it trusts, and how both are renewed while connections stay."""
