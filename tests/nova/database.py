# SPDX-License-Identifier: Apache-2.0
"""Look into the seeded databases without Nova.

database.py STATE moved               tell the databases that they lie in STATE
database.py STATE stored INSTANCE_ID  print the rows of an instance that begin like a password's, as JSON
database.py STATE clear INSTANCE_ID   remove these rows, as a rebuild does
"""
import json
import sqlite3
import sys
from contextlib import closing

state, command = sys.argv[1:3]
if command == "moved":
    with closing(sqlite3.connect(state + "/api.sqlite")) as db, db:
        for cell in ("cell0", "cell1"):
            db.execute("UPDATE cell_mappings SET database_connection = ? WHERE name = ?",
                       ("sqlite:///%s/%s.sqlite" % (state, cell), cell))
elif command == "stored":
    with closing(sqlite3.connect("file:%s/cell1.sqlite?mode=ro" % state, uri=True, timeout=10)) as db:
        rows = db.execute("SELECT key, value FROM instance_system_metadata WHERE instance_uuid = ? AND deleted = 0 "
                          "AND lower(key) LIKE 'password%'", (sys.argv[3],))
        json.dump(dict(rows), sys.stdout)
elif command == "clear":
    with closing(sqlite3.connect(state + "/cell1.sqlite", timeout=10)) as db, db:
        db.execute("DELETE FROM instance_system_metadata WHERE instance_uuid = ? AND lower(key) LIKE 'password%'",
                   (sys.argv[3],))
else:
    sys.exit(__doc__)
