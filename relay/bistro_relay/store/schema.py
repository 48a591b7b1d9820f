"""The tables of the relay's database, as numbered migrations that are never edited.

One process, one connection, write-ahead journal; transactions that wait together share a
commit. Nothing here says who uploaded or what is in a fragment: claims carry hashes only.

Source: docs/spec/staging.md; docs/spec/collection.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bistro.storage.database import Database

FILE_NAME: Final = "relay.sqlite3"

_FIRST: Final = """
CREATE TABLE upload (
  -- Ours, random, and the name of the segment file.
  id TEXT PRIMARY KEY,
  server TEXT NOT NULL,
  call TEXT NOT NULL,
  commitment BLOB NOT NULL CHECK (length(commitment) = 32),
  fragment INTEGER NOT NULL,
  -- The encoded claim, verified.
  claim BLOB NOT NULL,
  size INTEGER NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
  state TEXT NOT NULL
    CHECK (state IN ('receiving', 'complete', 'held', 'released', 'expired', 'terminated')),
  -- Bytes that are durable in the segment and may have been acknowledged.
  offset INTEGER NOT NULL CHECK (offset BETWEEN 0 AND size),
  expires_at INTEGER NOT NULL,
  hold_until INTEGER,
  changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- A fragment has one custody, however many uploads raced to bring it.
CREATE UNIQUE INDEX upload_custody ON upload (server, call, commitment, fragment)
  WHERE state IN ('complete', 'held', 'released');
CREATE INDEX upload_ends ON upload (state, expires_at);
CREATE INDEX upload_holds ON upload (hold_until) WHERE state = 'held';
CREATE INDEX upload_calls ON upload (server, call, state);

-- What destinations see, in the order in which receipts were given; cursors are never used twice.
CREATE TABLE staged (
  cursor INTEGER PRIMARY KEY AUTOINCREMENT,
  upload TEXT NOT NULL UNIQUE REFERENCES upload (id),
  server TEXT NOT NULL,
  call TEXT NOT NULL
) STRICT;
CREATE INDEX staged_calls ON staged (server, call, cursor);

CREATE TABLE terms (
  server TEXT NOT NULL,
  call TEXT NOT NULL,
  version INTEGER NOT NULL,
  -- Note and proof, as they are served; verified before they came here.
  body BLOB NOT NULL,
  PRIMARY KEY (server, call, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE nonce (
  key TEXT NOT NULL,
  nonce TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (key, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonce_ends ON nonce (expires_at);
"""

_SHARED: Final = """
-- With row ids: claims of a kilobyte stand in the leaves of the table, in the order in which
-- they came, and indexes stay small. Without, each takes a page of its own.
CREATE TABLE upload_next (
  id TEXT NOT NULL UNIQUE,
  server TEXT NOT NULL,
  call TEXT NOT NULL,
  commitment BLOB NOT NULL CHECK (length(commitment) = 32),
  fragment INTEGER NOT NULL,
  claim BLOB NOT NULL,
  size INTEGER NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
  state TEXT NOT NULL
    CHECK (state IN ('receiving', 'complete', 'held', 'released', 'expired', 'terminated')),
  offset INTEGER NOT NULL CHECK (offset BETWEEN 0 AND size),
  expires_at INTEGER NOT NULL,
  hold_until INTEGER,
  -- Small fragments: number of the shared segment and offset of the record.
  segment INTEGER,
  place INTEGER CHECK ((place IS NULL) = (segment IS NULL)),
  changed_at INTEGER NOT NULL
) STRICT;
INSERT INTO upload_next
  SELECT id, server, call, commitment, fragment, claim, size, sha256, state, offset, expires_at,
    hold_until, NULL, NULL, changed_at FROM upload;
CREATE TEMPORARY TABLE shown AS SELECT cursor, upload, server, call FROM staged;
DELETE FROM staged;
DROP TABLE upload;
ALTER TABLE upload_next RENAME TO upload;
INSERT INTO staged SELECT cursor, upload, server, call FROM shown;
DROP TABLE shown;

-- A fragment has one custody, however many uploads raced to bring it.
CREATE UNIQUE INDEX upload_custody ON upload (server, call, commitment, fragment)
  WHERE state IN ('complete', 'held', 'released');
CREATE INDEX upload_holds ON upload (hold_until) WHERE state = 'held';
CREATE INDEX upload_own ON upload (id) WHERE segment IS NULL;
CREATE INDEX upload_live ON upload (segment, place, size, state)
  WHERE segment IS NOT NULL AND state IN ('complete', 'held');
-- Most rows are held: what looks for others must not look at them.
CREATE INDEX upload_receiving ON upload (expires_at) WHERE state = 'receiving';
CREATE INDEX upload_complete ON upload (id) WHERE state = 'complete';
CREATE INDEX upload_gone ON upload (changed_at)
  WHERE state IN ('expired', 'terminated') AND hold_until IS NULL;
CREATE INDEX upload_ended ON upload (server, call, changed_at)
  WHERE state IN ('released', 'expired') AND hold_until IS NOT NULL;
-- What is counted at every start, from the index alone.
CREATE INDEX upload_calls ON upload (server, call, state, size, offset);

-- Sealed shared segments of which every record has its row or is dead.
CREATE TABLE settled (segment INTEGER PRIMARY KEY) STRICT;
"""

_ACCOUNTS: Final = """
-- Bytes of fragments for each destination and month, for good.
CREATE TABLE account (
  server TEXT NOT NULL,
  -- YYYY-MM, of UTC.
  month TEXT NOT NULL,
  accepted INTEGER NOT NULL,
  delivered INTEGER NOT NULL,
  PRIMARY KEY (server, month)
) STRICT, WITHOUT ROWID;
"""

_TREE_HASHES: Final = """
-- It is the root of a tree of hashes (docs/spec/fragments.md, tree hash).
ALTER TABLE upload RENAME COLUMN sha256 TO fragment_hash;
"""

MIGRATIONS: Final = (_FIRST, _SHARED, _ACCOUNTS, _TREE_HASHES)


async def open_database(directory: Path) -> Database:
    """The relay's database in ``directory``, which exists; made if it is missing.

    Raises:
        StorageError: It is no database, a newer one, or the disk failed.
    """
    return await Database.open(directory / FILE_NAME, migrations=MIGRATIONS, journal_mode="WAL")
