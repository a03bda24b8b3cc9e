"""A real PostgreSQL of the tests' own, on a socket in a temporary folder, as a user who is not root."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

PATIENCE = 120.0


class Postgres:
    """The server: `start` and `stop` as often as a test likes."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self.programs, self.folder = programs, folder
        self.process: subprocess.Popen[bytes] | None = None
        self.made = 0
        self.user: dict[str, Any] = {}
        if os.geteuid() == 0:  # which initdb refuses to be
            account = pwd.getpwnam("postgres" if "postgres" in {each.pw_name for each in pwd.getpwall()} else "nobody")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self.user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        told = ["--auth=trust", "--username=tutelage", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", *told, f"--pgdata={folder}/data")

    def _command(self, program: str, *words: str) -> dict[str, Any]:
        return {"args": [str(self.programs / program), *words], "cwd": self.folder, **self.user}

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            **self._command(program, *words),
            check=True,
            timeout=PATIENCE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def start(self) -> None:
        """Start it; without fsync, which only a fall of the whole machine would need."""
        words = ["-D", f"{self.folder}/data", "-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(**self._command("postgres", *words), stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return
            except psycopg.OperationalError:
                said = (self.folder / "log").read_text()
                assert self.process.poll() is None, said
                assert time.monotonic() < deadline, said
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """End it at once, as a crash would (SIGQUIT), or by closing every connection first (SIGINT)."""
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(PATIENCE)
            finally:
                self.process.kill()
                self.process = None

    def url(self, name: str) -> str:
        return f"postgresql://tutelage@/{name}?host={self.folder}"

    def new_database(self) -> str:
        self.made += 1
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE test{self.made}")
        return self.url(f"test{self.made}")


def programs_of_postgres() -> Path | None:
    """The folder of initdb and postgres; Debian has it outside the path."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").is_file()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    programs = programs_of_postgres()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    server = Postgres(programs, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop(signal.SIGINT)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's decisions go: both kinds of database."""
    if request.param == "sqlite":
        return str(tmp_path / "decisions.sqlite")
    return request.getfixturevalue("postgres").new_database()
