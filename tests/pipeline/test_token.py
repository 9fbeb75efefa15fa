"""Ray's token is in a file of its owner's alone; what hinders that is told in one line."""

import os
import stat
from pathlib import Path

import pytest

from tangentscope.pipeline.cluster.token import check_token, ensure_token
from tangentscope.pipeline.system.errors import UserError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def modes(home: Path) -> tuple[int, int]:
    places = home / ".ray", home / ".ray" / "auth_token"
    return tuple(stat.S_IMODE(place.stat().st_mode) for place in places)  # pyright: ignore[reportReturnType]


def test_a_new_token_is_made_once_and_for_its_owner_alone(home: Path):
    before = os.umask(0)
    try:
        ensure_token()
    finally:
        os.umask(before)
    assert modes(home) == (0o700, 0o600)
    token = (home / ".ray" / "auth_token").read_text()
    assert len(token) == 64
    ensure_token()
    assert (home / ".ray" / "auth_token").read_text() == token
    assert [each.name for each in (home / ".ray").iterdir()] == ["auth_token"]


@pytest.mark.parametrize("look", [check_token, ensure_token])
def test_one_that_others_could_read_is_shut(home: Path, look):
    (home / ".ray").mkdir(mode=0o755)
    (home / ".ray" / "auth_token").write_text("a token")
    (home / ".ray" / "auth_token").chmod(0o644)
    look()
    assert modes(home) == (0o700, 0o600)
    assert (home / ".ray" / "auth_token").read_text() == "a token"


def test_an_empty_one_is_made_anew(home: Path):
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").touch()
    ensure_token()
    assert len((home / ".ray" / "auth_token").read_text()) == 64


def test_looking_makes_none(home: Path):
    check_token()
    assert not (home / ".ray").exists()


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_TOKEN", "a token"), ("RAY_AUTH_MODE", "disabled")])
def test_none_is_made_where_none_is_needed(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)
    ensure_token()
    assert not (home / ".ray").exists()


@pytest.mark.parametrize("look", [check_token, ensure_token])
def test_a_file_that_is_named_must_be_there(home: Path, monkeypatch: pytest.MonkeyPatch, look):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "token"))
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH .*/token: No such file.*; give the file"):
        look()
    (home / "token").write_text(" \n")
    with pytest.raises(UserError, match="empty; give the file"):
        look()
    (home / "token").write_text("a token")
    (home / "token").chmod(0o644)
    look()
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o644  # the user's own: it may be shared, or mounted


def test_a_home_that_cannot_be_written(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "file").touch()
    monkeypatch.setenv("HOME", str(home / "file"))
    with pytest.raises(UserError, match=r"Ray's token .*: Not a directory; set HOME to a directory of yours"):
        ensure_token()
    monkeypatch.setenv("HOME", "/proc")
    with pytest.raises(UserError, match=r"Ray.s token /proc/.* cannot be written: .*; set HOME"):
        ensure_token()
