"""`python -m holdfast.testing.provider`: the simulated provider as a process of its own.

`SimulatedProvider` can be imported from here; it is written in `server`, because a module that is
both imported by its package and run with `-m` would be loaded twice.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from holdfast.errors import UsageError
from holdfast.testing.server import SimulatedProvider

__all__ = ["SimulatedProvider", "main"]


@click.command()
@click.option("--port", type=int, default=0, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--ledger", type=click.Path(path_type=Path, dir_okay=False), help="Ledger file.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="Divides the latency.")
@click.option("--upstream", help="Pass requests on, for example to https://api.openai.com.")
def main(port: int, ledger: Path | None, speed: float, upstream: str | None) -> None:
    """Serve until SIGINT or SIGTERM; the first line printed is the base URL."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        provider = SimulatedProvider(port=port, ledger_path=ledger, speed=speed, upstream=upstream)
        provider.start()
    except (UsageError, OSError) as error:
        raise click.ClickException(str(error)) from error
    with provider:
        click.echo(provider.base_url)
        stop.wait()


if __name__ == "__main__":
    main()
