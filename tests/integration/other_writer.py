"""Another program that writes to a file: Python's own sqlite3, without nearsql, in a process of its own.

Reads lines of JSON from its input, [path, sql], executes and commits each on one connection for each
path, and answers with "done" or with the error.
"""

import json
import sqlite3
import sys


def main() -> None:
    connection, opened = None, None
    for line in sys.stdin:
        path, sql = json.loads(line)
        if path != opened:
            if connection:
                connection.close()
            connection, opened = sqlite3.connect(path, timeout=10) if path else None, path
        if connection:
            connection.execute("pragma foreign_keys = on")
            try:
                with connection:
                    connection.execute(sql)
            except sqlite3.Error as error:
                print(f"{type(error).__name__}: {error}", flush=True)
                continue
        print("done", flush=True)


if __name__ == "__main__":
    main()
