"""A private PostgreSQL server for development and tests, shared by processes, needing no root.

Next to the data directory lies a directory of ours, `<data_dir>.run`, with the log and three
lock files. Kernel locks (flock) are the only truth, as they cannot outlive their holders:

    decision.lock   exclusive, for as long as somebody starts or stops the server
    attached.lock   shared, one for each attached object: the last one out stops the server
    alive.lock      exclusive, inherited by the server and all its children, hence free exactly
                    when all of them are gone: no zombie, re-used pid or orphan can deceive
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

import psycopg

from holdfast.errors import EmbeddedServerError, InvalidOption
from holdfast.storage.server_binaries import (
    PUBLIC_TEMPORARY_DIR,
    Account,
    Detached,
    account_for,
    bindir_for,
    bundled_bindir,
    has_programs,
    major_of,
    obstacle,
    refuse_foreign,
    server_version,
    spawn,
    user_name,
)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_LOG_LINES = 8
_PORT = "5432"  # only names the socket; without it a PGPORT of the caller's would
_SOCKET = f".s.PGSQL.{_PORT}"
_SOCKET_PATH_BYTES = 103  # macOS has 104 with the final zero, Linux 108
_DEFAULTS = {"shared_buffers": "128MB", "max_connections": "200"}
_RESERVED = {
    "data_directory",
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "unix_socket_permissions",
}


class EmbeddedPostgres:
    """One PostgreSQL server for each data directory, however many processes ask for it.

    The server listens on a private socket only, and it survives the process that started it:
    without `stop()`, it waits for the next one to attach. Data survive every kind of kill.

        with EmbeddedPostgres(EmbeddedPostgres.default_data_dir(Path.cwd())) as server:
            psycopg.connect(server.dsn)
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        bindir: Path | str | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing runs yet. `settings` count for a server that this object starts itself.

        `bindir` is a directory with `postgres` and `initdb`; None takes the installed wheel's.
        """
        self._data_dir = Path(data_dir).expanduser().resolve()
        self._run_dir = self._data_dir.with_name(self._data_dir.name + ".run")
        self._bindir = bundled_bindir() if bindir is None else Path(bindir).resolve()
        if not has_programs(self._bindir):
            message = f"{str(self._bindir)!r} has no `postgres` and `initdb`"
            raise EmbeddedServerError(message, "Install PostgreSQL's server, not only its client.")
        self._settings = {**_DEFAULTS, **(settings or {})}
        if reserved := sorted(_RESERVED & self._settings.keys()):
            message = f"the embedded server sets {', '.join(reserved)} itself"
            raise InvalidOption(message, "Leave these settings out.")
        self._socket_dir: Path | None = None
        self._attached: int | None = None  # the descriptor that holds the shared lock
        self._attached_pid = 0
        self._log_start = 0
        self._server: Detached | None = None  # set when this object launched it

    @staticmethod
    def default_data_dir(project: Path) -> Path:
        """The data directory of a project; two checkouts share nothing.

        For root it lies below /var/tmp, where the unprivileged account of the server reaches it.
        """
        key = hashlib.sha256(os.fsencode(project.resolve())).hexdigest()[:16]
        if os.geteuid() == 0:
            return PUBLIC_TEMPORARY_DIR / f"holdfast-{key}" / "pg"
        home = Path(os.environ.get("XDG_DATA_HOME", ""))
        home = home if home.is_absolute() else Path.home() / ".local" / "share"
        return home / "holdfast" / key / "pg"

    @property
    def dsn(self) -> str:
        """The connection string of the started server, with all rights in it; no password."""
        if self._socket_dir is None:
            raise EmbeddedServerError("the embedded PostgreSQL is not started", "Call start().")
        host = quote(str(self._socket_dir), safe="")
        return f"postgresql:///postgres?host={host}&port={_PORT}&user=postgres"

    @property
    def pid(self) -> int:
        """The process id of the server's postmaster; another one after a restart."""
        pid = _pid_in(self._pid_file)
        if pid is None:
            raise EmbeddedServerError("the embedded PostgreSQL does not run", "Call start().")
        return pid

    @functools.cached_property
    def version(self) -> str:
        """The version of the programs, such as `18.4`."""
        return server_version(self._bindir)

    @property
    def log_path(self) -> Path:
        """The file with the server's messages, and those of initdb."""
        return self._run_dir / "server.log"

    def start(self) -> EmbeddedPostgres:
        """The server answers, on this data directory, and this object is attached to it.

        Makes the data when there are none, and attaches when the server runs. Called again it
        checks, and revives a killed server. A failed call leaves no process of its own behind.
        """
        account = self._prepare()
        with self._deciding():
            was_attached = self._attached is not None
            self._attach()
            try:
                self._bring_up(account)
            except BaseException:
                if not was_attached:
                    self._detach()
                raise
        return self

    def stop(self) -> None:
        """This object is detached; the server is gone if nobody else was attached.

        Does nothing when not attached, so that it can be called twice. In a forked child it
        leaves the server to the parent.
        """
        if self._attached is None:
            return
        if self._attached_pid != os.getpid():
            os.close(self._attached)  # no unlocking: the lock is the parent's, too
            self._attached = None
            return
        with self._deciding():
            fcntl.flock(self._attached, fcntl.LOCK_UN)
            try:
                if _try_lock(self._attached):
                    self._shut_down(signal.SIGINT)
            finally:
                self._detach()

    def restart(self, *, immediate: bool = False) -> None:
        """The server was stopped and runs again, whoever is attached; `immediate` is a crash."""
        account = self._prepare()
        with self._deciding():
            self._attach()
            self._shut_down(signal.SIGQUIT if immediate else signal.SIGINT)
            self._bring_up(account)

    def __enter__(self) -> EmbeddedPostgres:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def _pid_file(self) -> Path:
        return self._data_dir / "postmaster.pid"

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        lock = _open_own(self._run_dir / "decision.lock")
        try:
            if not _poll(lambda: _try_lock(lock), START_TIMEOUT_S + 2 * STOP_TIMEOUT_S):
                message = f"another process has been starting or stopping {str(self._data_dir)!r}"
                raise EmbeddedServerError(message, f"`fuser {self._run_dir}/*` shows who it is.")
            yield
        except OSError as error:
            message = f"the embedded PostgreSQL in {str(self._data_dir)!r}: {error}"
            raise EmbeddedServerError(message, "Choose another data directory.") from error
        finally:
            os.close(lock)

    def _attach(self) -> None:
        if self._attached is None or self._attached_pid != os.getpid():
            lock = _open_own(self._run_dir / "attached.lock")
            fcntl.flock(lock, fcntl.LOCK_SH)  # nobody holds it exclusively outside a decision
            self._attached, self._attached_pid = lock, os.getpid()

    def _detach(self) -> None:
        lock, self._attached, self._socket_dir = self._attached, None, None
        if lock is not None:
            fcntl.flock(lock, fcntl.LOCK_UN)  # forked children may hold the descriptor, too
            os.close(lock)

    def _prepare(self) -> Account:
        account = account_for(self._data_dir)
        mode = 0o711 if account.is_other else 0o700
        parent = self._data_dir.parent
        _make_directory(parent, mode)
        if blocked := obstacle(parent, account):
            raise EmbeddedServerError(
                f"user {account.name!r}, who must run PostgreSQL, cannot enter {str(blocked)!r}",
                "Choose a data directory that this user can reach, such as one below /var/tmp.",
            )
        is_public = parent.parent.stat().st_mode & stat.S_IWOTH
        if is_public:  # somebody may have put a directory of theirs where ours was expected
            refuse_foreign(parent, {0, os.geteuid()})
        _make_directory(self._run_dir, mode)
        refuse_foreign(self._run_dir, {os.geteuid()})
        return account

    def _bring_up(self, account: Account) -> None:
        self._make_data(account)
        deadline = time.monotonic() + START_TIMEOUT_S
        server: Detached | None = None
        try:
            while problem := self._probe():
                if server is None:
                    server = self._launch_if_gone(account)
                elif server.poll() is not None:
                    raise self._failure("PostgreSQL did not start")
                if time.monotonic() > deadline:
                    raise self._failure(f"PostgreSQL does not answer: {problem}")
                time.sleep(_POLL_S)
        except BaseException:
            if server is not None:
                server.send_signal(signal.SIGQUIT)
                server.wait()
            self._drop_socket_dir()
            raise

    def _probe(self) -> str | None:
        """Why the server does not serve, asked by a real query; None when it does."""
        lines = _lines_of(self._pid_file)
        if len(lines) < 8 or lines[7].strip() != "ready":
            return "it does not run, or is not ready yet"
        self._socket_dir = Path(lines[4])
        try:
            with psycopg.connect(self.dsn, connect_timeout=5, autocommit=True) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
        except psycopg.Error as error:
            return str(error)
        if row is None or Path(row[0]).resolve() != self._data_dir:
            message = f"the server at {str(self._socket_dir)!r} has the data directory {row!r}"
            raise EmbeddedServerError(message, "Unset PGHOSTADDR, or stop that server.")
        return None

    def _launch_if_gone(self, account: Account) -> Detached | None:
        """The new server's process; None while any process of an earlier server lives."""
        alive = _open_own(self._run_dir / "alive.lock")
        try:
            if not _try_lock(alive):
                return None
            self._reap()
            socket_dir = self._socket_dir = self._make_socket_dir(account)
            # PostgreSQL takes a zombie, or a new process of that number, for a live server. Only
            # files of a server of ours are removed: of all others, PostgreSQL is the judge.
            recorded = int(os.pread(alive, 20, 0) or 0)
            for file in (self._pid_file, socket_dir / f"{_SOCKET}.lock"):
                if _pid_in(file) == recorded:
                    file.unlink()
            server = self._run(account, "postgres", *self._arguments(socket_dir), keep_open=alive)
            os.ftruncate(alive, 0)
            os.write(alive, str(server.pid).encode())
            self._server = server
            return server
        finally:
            os.close(alive)  # without unlocking: the server holds the same lock

    def _shut_down(self, number: signal.Signals) -> None:
        alive = _open_own(self._run_dir / "alive.lock")
        try:
            for step in (number, signal.SIGQUIT):
                pid = _pid_in(self._pid_file)
                if pid is not None and not _try_lock(alive):
                    with suppress(ProcessLookupError):
                        os.kill(pid, step)
                if _poll(lambda: _try_lock(alive), STOP_TIMEOUT_S):
                    break
            else:
                raise self._failure("processes of PostgreSQL do not end")
        finally:
            os.close(alive)
        self._reap()
        self._drop_socket_dir()

    def _drop_socket_dir(self) -> None:
        if self._socket_dir is not None:
            with suppress(OSError):  # it may be gone, or in use again
                self._socket_dir.rmdir()

    def _reap(self) -> None:
        server, self._server = self._server, None
        if server is not None:  # at once, as it is only called when alive.lock is free
            _poll(lambda: server.poll() is not None, STOP_TIMEOUT_S)

    def _make_data(self, account: Account) -> None:
        if not self._data_dir.exists() or not any(self._data_dir.iterdir()):
            self._initialise(account)
        found = "".join(_lines_of(self._data_dir / "PG_VERSION"))
        if not found:
            message = f"{str(self._data_dir)!r} is not empty, and no data directory of PostgreSQL"
            raise EmbeddedServerError(message, "Choose an empty or a new directory.")
        if major_of(found) != major_of(self.version):
            raise EmbeddedServerError(
                f"the data in {str(self._data_dir)!r} are of PostgreSQL {found}, "
                f"the programs in {str(self._bindir)!r} of PostgreSQL {self.version}",
                f"Give the bin directory of a PostgreSQL {found}, move the data with pg_upgrade, "
                f"or remove the directory if the data may be lost.",
            )

    def _initialise(self, account: Account) -> None:
        # Beside the data directory and then moved: an initdb killed half-way leaves no ruin there.
        fresh = self._run_dir / "initdb"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        if account.is_other:
            os.chown(fresh, account.uid, account.gid)
        options = "--username=postgres --auth-local=trust --auth-host=reject --encoding=UTF8"
        process = self._run(account, "initdb", *options.split(), "--locale=C", f"-D{fresh}")
        try:
            _poll(lambda: process.poll() is not None, START_TIMEOUT_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if process.returncode != 0:
            raise self._failure("initdb failed")
        fresh.rename(self._data_dir)

    def _arguments(self, socket_dir: Path) -> list[str]:
        fixed = {"listen_addresses": "", "unix_socket_permissions": "0700"}
        pairs = [f"{name}={value}" for name, value in {**self._settings, **fixed}.items()]
        options = [word for pair in pairs for word in ("-c", pair)]
        return ["-D", str(self._data_dir), "-k", str(socket_dir), "-p", _PORT, *options]

    def _run(
        self, account: Account, program: str, *arguments: str, keep_open: int | None = None
    ) -> Detached:
        path = bindir_for(self._bindir, account) / program
        with os.fdopen(_open_own(self.log_path), "ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            kept = () if keep_open is None else (keep_open,)
            return spawn(account, [str(path), *arguments], output=log, keep_open=kept)

    def _make_socket_dir(self, account: Account) -> Path:
        key = hashlib.sha256(f"{account.uid}:{self._data_dir}".encode()).hexdigest()[:12]
        for base in (tempfile.gettempdir(), "/tmp", PUBLIC_TEMPORARY_DIR):
            path = Path(base).resolve() / f"hf-{key}"
            is_short = len(os.fsencode(path / _SOCKET)) <= _SOCKET_PATH_BYTES
            if is_short and obstacle(path.parent, account) is None:
                break
        else:
            raise EmbeddedServerError("no directory for the socket is in reach", "Set TMPDIR.")
        _make_directory(path, 0o700)
        refuse_foreign(path, {account.uid, os.geteuid()})
        if account.is_other:
            os.chown(path, account.uid, account.gid, follow_symlinks=False)
        return path

    def _failure(self, message: str) -> EmbeddedServerError:
        with suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_start)
            last = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
            message = "\n    ".join([f"{message}; the log ends with", *last])
        return EmbeddedServerError(message, f"The whole log is in {self.log_path}.")


def _open_own(path: Path) -> int:
    # O_APPEND is for the log; nobody's link may lead us to another file.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
    except OSError as error:
        message = f"{str(path)!r} cannot be opened: {error.strerror}"
        raise EmbeddedServerError(message, "Remove it if it is a leftover.") from error
    owner = os.fstat(file).st_uid
    if owner != os.geteuid():
        os.close(file)
        message = f"{str(path)!r} belongs to another user, {user_name(owner)!r}"
        raise EmbeddedServerError(message, "Remove it if it is a leftover.")
    return file


def _make_directory(path: Path, mode: int) -> None:
    if path.exists():
        return
    _make_directory(path.parent, mode)
    try:
        path.mkdir(mode)
        path.chmod(mode)  # mkdir leaves out what the umask has
    except FileExistsError:
        pass  # another process was faster, or it is a dangling link: the caller judges
    except OSError as error:
        message = f"the directory {str(path)!r} cannot be made: {error.strerror}"
        raise EmbeddedServerError(message, "Choose another data directory.") from error


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _poll(condition: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not (holds := condition()) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return holds


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _pid_in(path: Path) -> int | None:
    lines = _lines_of(path)
    return int(lines[0]) if lines and lines[0].isdigit() else None
