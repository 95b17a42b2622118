from __future__ import annotations

import pytest

from homeport.tls.names import is_loopback, is_wildcard, local_addresses, names_of

TABLE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 100.64.7.1
        /32 host LOCAL
     |-- 100.64.7.255
        /32 link BROADCAST
  +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
Local:
     |-- 100.64.7.1
        /32 host LOCAL
"""


@pytest.mark.parametrize(
    ("host", "loopback"), [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("LOCALHOST", True)]
    + [(host, False) for host in ("0.0.0.0", "::", "100.64.7.1", "localhost.example", "127.0.0.1.example", "2130706433", "", "169.254.170.2")],
)  # fmt: skip
def test_what_only_this_machine_reaches(host, loopback):
    assert is_loopback(host) is loopback


def test_the_wildcard_stands_for_every_address():
    assert [is_wildcard(host) for host in ("0.0.0.0", "::", "", "127.0.0.1", "web")] == [True, True, True, False, False]


def test_a_servers_names_are_where_it_listens_what_it_says_and_what_it_was_told(tmp_path):
    assert names_of("100.64.7.1", "https://api.example:8470", ("lb.example", "")) == (
        "localhost",
        "127.0.0.1",
        "100.64.7.1",
        "api.example",
        "lb.example",
    )
    assert set(local_addresses()) | {"api.example"} <= set(names_of("0.0.0.0", "https://api.example:8470"))


def test_the_kernels_table_is_read(tmp_path):
    (tmp_path / "table").write_text(TABLE)
    assert local_addresses(tmp_path / "table") == ["100.64.7.1", "127.0.0.1"]
    assert local_addresses(tmp_path / "none") == []
    assert "127.0.0.1" in local_addresses()
