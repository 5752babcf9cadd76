"""What `make check` refuses to keep, and what `make audit` makes of its answers."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from scripts.audit import parsed
from scripts.secret_scan import ALLOWED, of_high_entropy, of_known_form

RANDOM = base64.b64encode(bytes(range(7, 250, 5))).decode()


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("key = 'AKIA" + "IOSFODNN7EXAMPLZ'", "AWS Access Key"),
        ("token: ghp_" + "0123456789abcdefghijABCDEFGHIJ012345", "GitHub Token"),
        ("-----BEGIN RSA " + "PRIVATE KEY-----", "Private Key"),
        ("memory: postgresql://agent:" + "hunter2@db/agent", "Basic Auth Credentials"),
    ],
)
def test_what_has_the_form_of_a_secret_is_found_with_its_line(
    tmp_path: Path, line: str, kind: str
) -> None:
    path = tmp_path / "kept.yaml"
    path.write_text(f"# first\n{line}\n")
    assert list(of_known_form([path])) == [f"{path}:2: {kind}"]
    path.write_text(f"# first\n{line}  # {ALLOWED}\n")
    assert list(of_known_form([path])) == []


def test_what_is_random_is_found(tmp_path: Path) -> None:
    path = tmp_path / "kept.py"
    path.write_text(f'SECRET = "{RANDOM}"\nNAME = "a_name_of_some_length_in_words"\n')
    assert list(of_high_entropy([path])) == [f"{path}:1: Base64 High Entropy String"]


def test_names_of_variables_and_references_are_let_stand(tmp_path: Path) -> None:
    path = tmp_path / "kept.yaml"
    path.write_text("password: ${POSTGRES_PASSWORD}\nurl: postgresql://USER@HOST/DATABASE\n")
    assert list(of_known_form([path])) == []
    assert list(of_high_entropy([path])) == []


def test_an_audit_counts_what_it_was_not_told_of() -> None:
    found = parsed(
        {
            "dependencies": [
                {"name": "fine", "version": "1", "vulns": []},
                {"name": "away", "skip_reason": "not found"},
                {
                    "name": "bad",
                    "version": "2",
                    "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1", "3.0"]}],
                },
            ]
        }
    )
    assert (found.audited, found.unknown) == (2, ["away"])
    assert found.vulnerable == ["bad 2: PYSEC-1, fixed in 2.1, 3.0"]
