"""Addresses are printed without passwords."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbalance_lab.addresses import without_secrets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://me:s3cr3t@db:5432/x", "postgresql://db:5432/x"),
        ("https://t0ken@host/x", "https://host/x"),
        ("'mysql+pymysql://a:p@ss/w@h/db' failed", "'mysql+pymysql://h/db' failed"),
        ("https://h/f?sig=abc%3D&x=1", "https://h/f?sig=***&x=1"),
        ("ray://u:p@h:10001", "ray://h:10001"),
        ("wasbs://box@account.net/x", "wasbs://box@account.net/x"),
        ("http://127.0.0.1:5000/#/experiments/1", "http://127.0.0.1:5000/#/experiments/1"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
    ],
)
def test_addresses(text: str, expected: str) -> None:
    assert without_secrets(text) == expected


_WORD = st.text("abcXYZ019-_.%", min_size=1, max_size=12)


@given(user=_WORD, secret=st.text("abcXYZ019-_.%/@:", max_size=12), scheme=st.sampled_from(["http", "tcp", "mysql"]))
def test_no_password_stays(user: str, secret: str, scheme: str) -> None:
    password = f"sEcReT{secret}"
    found = without_secrets(f"cannot reach {scheme}://{user}:{password}@host:99/path, sorry")
    assert found == f"cannot reach {scheme}://host:99/path, sorry"


def test_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "hunter2hunter2")
    assert without_secrets("Bearer hunter2hunter2 refused") == "Bearer *** refused"
