"""A row of yours and a job commit together, or neither exists.

Set HOLDFAST_DSN to a PostgreSQL database of yours, then: python examples/transactional_enqueue.py

Expected output:

    committed: 1 order, 1 job
    rolled back: 1 order, 1 job
    wrote the receipt of order 1
    receipts: 1
"""

import asyncio
import os

import psycopg

from holdfast import Context, Holdfast

app = Holdfast()
DSN = app.settings.dsn or ""
TABLE = f"orders_of_example_{os.getpid()}"


@app.job()
async def send_receipt(ctx: Context, order_id: int) -> str:
    # The user's row and the step's journal row commit in one transaction: exactly once, however
    # often this job is started.
    async with ctx.transaction() as conn:
        await conn.execute(f"UPDATE {TABLE} SET receipts = receipts + 1 WHERE id = %s", [order_id])
    return f"wrote the receipt of order {order_id}"


def counts(conn: psycopg.Connection) -> str:
    row = conn.execute(f"SELECT count(*) FROM {TABLE}").fetchone()
    assert row is not None
    return f"{row[0]} order, {len(app.jobs_sync(name='send_receipt'))} job"


def orders() -> None:
    with psycopg.connect(DSN, autocommit=True) as conn:
        with conn.transaction():
            conn.execute(f"INSERT INTO {TABLE} (id) VALUES (1)")
            send_receipt.options(conn=conn).enqueue_sync(1)
        print("committed:", counts(conn))

        try:
            with conn.transaction():
                conn.execute(f"INSERT INTO {TABLE} (id) VALUES (2)")
                send_receipt.options(conn=conn).enqueue_sync(2)
                raise RuntimeError("the payment was refused")
        except RuntimeError:
            print("rolled back:", counts(conn))


async def work() -> None:
    async with app, app.running():
        [job] = await app.jobs(name="send_receipt")
        print(await app.handle(job.id).result(timeout="30s"))


def main() -> None:
    app.migrate()
    with psycopg.connect(DSN, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE {TABLE} (id int PRIMARY KEY, receipts int DEFAULT 0)")
        try:
            orders()
            asyncio.run(work())
            row = conn.execute(f"SELECT receipts FROM {TABLE} WHERE id = 1").fetchone()
            assert row is not None
            print("receipts:", row[0])
        finally:
            conn.execute(f"DROP TABLE {TABLE}")
            app.close_sync()


if __name__ == "__main__":
    main()
