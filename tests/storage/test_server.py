"""The embedded server keeps its promises against real PostgreSQL servers, killed in every way."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fixtures.servers import (
    BINDIRS,
    NOBODY,
    PACKAGES,
    Owner,
    facts,
    is_alive,
    needs_root,
    query,
)
from holdfast.errors import EmbeddedServerError, InvalidOption
from holdfast.storage import server_binaries
from holdfast.storage.server import EmbeddedPostgres
from holdfast.storage.server_binaries import bundled_bindir


def test_an_empty_directory_becomes_a_private_server_with_safe_settings(
    base: Path, bindir: Path
) -> None:
    with EmbeddedPostgres(base / "new" / "data", bindir=bindir) as server:
        expected = {
            "data_directory": str(base / "new" / "data"),
            "listen_addresses": "",
            "fsync": "on",
            "server_encoding": "UTF8",
            "shared_buffers": "128MB",
            "max_connections": "200",
        }
        assert {name: query(server.dsn, f"SHOW {name}") for name in expected} == expected
        assert query(server.dsn, "SELECT datcollate FROM pg_database LIMIT 1") == "C"
        assert str(query(server.dsn, "SHOW server_version")).split()[0] == server.version
        pid = server.pid
    assert not is_alive(pid)


def test_start_and_stop_can_be_called_twice_and_in_any_order(server: EmbeddedPostgres) -> None:
    server.stop()
    pid = server.start().pid
    assert server.start().pid == pid
    server.stop()
    server.stop()
    assert not is_alive(pid)
    with pytest.raises(EmbeddedServerError, match="not started"):
        _ = server.dsn


def test_the_callers_pg_variables_and_unfinished_initdb_do_not_matter(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PGPORT": "6543", "PGDATA": "/nowhere", "PGHOST": "nowhere"}.items():
        monkeypatch.setenv(name, value)
    leftover = base / "data.run" / "initdb"
    leftover.mkdir(parents=True)
    (base / "data.run").chmod(0o711)
    (leftover / "PG_VERSION").write_text("1")
    with EmbeddedPostgres(base / "data", bindir=BINDIRS[0]) as server:
        assert query(server.dsn, "SELECT 1") == 1


def test_settings_reach_the_server_but_not_those_it_depends_on(
    data_dir: Path, bindir: Path
) -> None:
    with EmbeddedPostgres(data_dir, bindir=bindir, settings={"work_mem": "5MB"}) as server:
        assert query(server.dsn, "SHOW work_mem") == "5MB"
    with pytest.raises(InvalidOption, match="port"):
        EmbeddedPostgres(data_dir, bindir=bindir, settings={"port": "1"})


# Root


@needs_root
def test_root_runs_it_as_an_existing_account_and_changes_nothing_of_others(
    data_dir: Path, bindir: Path, server: EmbeddedPostgres
) -> None:
    watched = (*data_dir.parents, bindir, *bindir.parents, Path(tempfile.gettempdir()))
    users, before = pwd.getpwall(), facts(*watched)
    with server:
        status = Path(f"/proc/{server.pid}").stat()
        assert pwd.getpwuid(status.st_uid).pw_name in ("postgres", "nobody")
        assert facts(data_dir)[0][:2] == (stat.S_IFDIR | 0o700, status.st_uid)
    assert facts(*watched) == before
    assert pwd.getpwall() == users


@needs_root
def test_root_gets_a_copy_of_programs_that_the_account_cannot_reach(
    base: Path, data_dir: Path, bindir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if bindir not in bundled_bindir().parents and bindir != bundled_bindir():
        pytest.skip("a distribution's programs look for the rest at other places")
    install, closed = bindir.parent, base / "closed"
    target = closed / install.parent.name / install.name
    shutil.copytree(install, target, ignore=shutil.ignore_patterns("include"))
    libraries = install.parent.with_name(install.parent.name + ".libs")
    shutil.copytree(libraries, closed / libraries.name)
    closed.chmod(0o700)
    cache = base / "cache"
    cache.mkdir(mode=0o755)
    monkeypatch.setattr(server_binaries, "PUBLIC_TEMPORARY_DIR", cache)
    before = facts(base, closed, target)
    for _ in range(2):
        with EmbeddedPostgres(data_dir, bindir=target / "bin") as server:
            assert query(server.dsn, "SELECT 1") == 1
            program = Path(f"/proc/{server.pid}/exe").readlink()
            assert cache in program.parents
            inode = program.stat().st_ino
    (copy,) = cache.iterdir()
    assert facts(copy) == [(stat.S_IFDIR | 0o755, 0, 0)]
    assert program.stat().st_ino == inode
    assert facts(base, closed, target) == before
    # A cleaner of /var/tmp has been here.
    next(copy.rglob("postgres.bki")).unlink()
    with EmbeddedPostgres(data_dir, bindir=target / "bin") as server:
        assert next(copy.rglob("postgres.bki")).exists()
    os.chown(copy, NOBODY.pw_uid, -1)
    with pytest.raises(EmbeddedServerError, match="belongs to user 'nobody'"):
        EmbeddedPostgres(data_dir, bindir=target / "bin").start()


@needs_root
def test_a_parent_that_the_account_cannot_pass_is_an_error_not_a_chmod(base: Path) -> None:
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    before = facts(closed, base)
    with pytest.raises(EmbeddedServerError, match=r"cannot enter .*closed") as caught:
        EmbeddedPostgres(closed / "data", bindir=BINDIRS[0]).start()
    assert "/var/tmp" in caught.value.hint
    assert facts(closed, base) == before
    assert list(closed.iterdir()) == []


@needs_root
def test_data_that_belong_to_root_are_refused_and_others_run_as_their_owner(
    data_dir: Path, bindir: Path, server: EmbeddedPostgres
) -> None:
    original = data_dir.stat()

    def give_to(uid: int, gid: int) -> None:
        subprocess.run(["chown", "-R", f"{uid}:{gid}", data_dir], check=True)

    try:
        give_to(0, 0)
        with pytest.raises(EmbeddedServerError, match="belongs to root"):
            server.start()
        give_to(NOBODY.pw_uid, NOBODY.pw_gid)
        server.start()
        assert Path(f"/proc/{server.pid}").stat().st_uid == NOBODY.pw_uid
        server.stop()
    finally:
        give_to(original.st_uid, original.st_gid)


@needs_root
def test_a_directory_of_somebody_else_in_a_public_place_is_refused(base: Path) -> None:
    os.chown(base, NOBODY.pw_uid, -1)
    with pytest.raises(EmbeddedServerError, match="belongs to user 'nobody'"):
        EmbeddedPostgres(base / "data", bindir=BINDIRS[0]).start()


@needs_root
def test_an_unprivileged_user_needs_nothing_and_foreign_lock_files_do_not_matter(
    base: Path,
) -> None:
    bindir = BINDIRS[0]
    candidates = (Path(sys.executable).resolve(), Path("/usr/bin/python3"))
    account = server_binaries.Account("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    reachable = [p for p in candidates if server_binaries.obstacle(p, account) is None]
    if not reachable or server_binaries.obstacle(Path(PACKAGES), account):
        pytest.skip("no interpreter within reach of nobody")
    home, temporary = base / "home", base / "tmp"
    for place in (home, temporary):
        place.mkdir()
        os.chown(place, NOBODY.pw_uid, NOBODY.pw_gid)
    (temporary / ".lockfile").touch(mode=0o600)
    watched = (base, home, temporary, temporary / ".lockfile")
    before = facts(*watched)
    identity = {"user": NOBODY.pw_uid, "group": NOBODY.pw_gid, "extra_groups": []}
    owner = Owner(
        home / "data",
        bindir,
        interpreter=reachable[0],
        env={"TMPDIR": str(temporary), "HOME": str(home)},
        **identity,
    )
    pid, dsn = owner.started()
    assert query(dsn, "SELECT 1") == 1
    assert Path(f"/proc/{pid}").stat().st_uid == NOBODY.pw_uid
    with pytest.raises(EmbeddedServerError, match="belongs to user 'nobody'"):
        EmbeddedPostgres(home / "data", bindir=bindir).start()
    owner.stop()
    assert not is_alive(pid)
    assert facts(*watched) == before


# Several processes


@needs_root
def test_a_lock_file_of_another_user_is_a_clear_error(
    data_dir: Path, server: EmbeddedPostgres
) -> None:
    server.start().stop()
    lock = data_dir.with_name("data.run") / "attached.lock"
    os.chown(lock, NOBODY.pw_uid, -1)
    with pytest.raises(EmbeddedServerError, match=r"attached.lock' belongs to another user"):
        server.start()
    os.chown(lock, 0, -1)
    server.start()
