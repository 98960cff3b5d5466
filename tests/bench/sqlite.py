"""Records in SQLite with indices, WAL and a sync a commit: rows a second, in a process of its own.

Rows are made before the clock runs; what is timed is one statement for the batch, and its commit. Binding the values costs
Python about a twentieth of it.
"""

import os
import sqlite3
import sys
import time

FEW = ["task", "tenant, time"]
ALL = ["task", "tenant", "agent", "kind", "state", "outcome", "destination", "policy", "bundle", "sensitivity", "stakes", "subject", "time"]


def main(directory: str, indices: str, batch: int, record_bytes: int, span: float) -> None:
    db = sqlite3.connect(os.path.join(directory, f"{indices}-{batch}.sqlite"), isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -262144")
    db.execute(
        "CREATE TABLE record (id INTEGER PRIMARY KEY, stream INT, sequence INT, time INT, task BLOB, tenant INT, agent TEXT,"
        " kind TEXT, state TEXT, outcome TEXT, destination TEXT, policy TEXT, bundle BLOB, sensitivity TEXT, stakes TEXT,"
        " subject BLOB, bytes BLOB)"
    )
    db.execute("CREATE UNIQUE INDEX source ON record (stream, sequence)")
    for number, columns in enumerate(FEW if indices == "few" else ALL):
        db.execute(f"CREATE INDEX by_{number} ON record ({columns})")
    body, bundle, begun = b"x" * record_bytes, b"\x11" * 32, time.time_ns()
    done, spent, start = 0, 0.0, time.monotonic()
    while spent < span and time.monotonic() - start < 4 * span:
        rows = []
        for n in range(done, done + batch):
            task, part = divmod(n, 3)
            name = (begun + task).to_bytes(8, "big") + task.to_bytes(8, "big")
            kind = ("task", "work", "result")[part]
            decided = ("local", "local-small", "permit-local", bundle) if part == 1 else (None,) * 4
            state = "completed" if part == 2 else None
            rows.append(
                (n, part, task, begun + n, name, 1, "bot", kind, state, *decided, "internal", "low", name, body)
            )
        clock = time.perf_counter()
        db.execute("BEGIN")
        db.executemany("INSERT INTO record VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)", rows)
        db.execute("COMMIT")
        spent += time.perf_counter() - clock
        done += batch
    print(done / spent, sqlite3.sqlite_version)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5]))
