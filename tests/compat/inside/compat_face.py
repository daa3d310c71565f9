"""pytest plugin: `import sqlite3` gives the face, to the tests and to what they test."""

import sys

from nearsql.udfs import dbapi

sys.modules["sqlite3"] = dbapi
sys.modules["sqlite3.dbapi2"] = dbapi
