"""The tables of the server's database, as numbered migrations that are never edited.

One file is shared by the processes ``serve``, ``collect`` and ``open``: rollback journal, every
commit durable. ``submission`` has one row for each ticket; its rows are written by whoever
learns of the ticket first (the tail of the log, a receipt presented, a row listed by a relay).

Source: docs/decisions/0002-rollback-journal-at-the-server.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bistro.storage.database import Database

_FIRST: Final = """
CREATE TABLE call (
  call TEXT PRIMARY KEY,
  -- Entries of the call's log whose tickets are rows of `submission`.
  tailed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

CREATE TABLE submission (
  id INTEGER PRIMARY KEY,
  call TEXT NOT NULL,
  commitment BLOB NOT NULL CHECK (length(commitment) = 32),
  log_index INTEGER NOT NULL,
  -- The effective time: of the ticket, or of the postmarks that were admitted.
  ticketed_at INTEGER NOT NULL,
  state TEXT NOT NULL DEFAULT 'ticketed'
    CHECK (state IN ('ticketed', 'staged', 'collected', 'opened', 'lapsed')),
  updated_at INTEGER NOT NULL,
  -- What a verified claim says, the same in every claim of one commitment; NULL until there is
  -- one. The layout has k, n and the size of the envelope; header_leaf hides the header.
  layout BLOB,
  header_leaf BLOB,
  needed INTEGER,
  -- Whether the signed status on disk says what this row says, or the row no more than a ticket.
  is_published INTEGER NOT NULL DEFAULT 0,
  UNIQUE (call, commitment),
  UNIQUE (call, log_index)
);
CREATE INDEX submission_state ON submission (call, state, log_index);
CREATE INDEX submission_unpublished ON submission (call, id) WHERE is_published = 0;

-- A fragment that the destination knows to be (or to have been) at a relay.
CREATE TABLE fragment (
  submission INTEGER NOT NULL REFERENCES submission (id),
  fragment_index INTEGER NOT NULL,
  relay TEXT NOT NULL,
  -- The encoded claim, verified.
  claim BLOB NOT NULL,
  -- The receipt that the filer presented, a tlog-proof text; NULL if only the relay listed it.
  receipt TEXT,
  -- The earliest that the relay's promise is dated, and when the destination first saw it.
  dated_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  hold_until INTEGER NOT NULL,
  -- What became of it here. `wrong`: the relay gave other bytes than promised, for good.
  fate TEXT NOT NULL DEFAULT 'announced'
    CHECK (fate IN ('announced', 'verified', 'lost', 'wrong', 'released')),
  PRIMARY KEY (submission, fragment_index, relay)
) WITHOUT ROWID;
CREATE INDEX fragment_relay ON fragment (relay, fate);

-- How far a call's list of staged fragments at a relay has been read durably.
CREATE TABLE relay_cursor (
  call TEXT NOT NULL,
  relay TEXT NOT NULL,
  cursor INTEGER NOT NULL,
  PRIMARY KEY (call, relay)
) WITHOUT ROWID;

-- Envelopes that are restored, found consistent and durable in `envelopes/`.
CREATE TABLE envelope (
  submission INTEGER PRIMARY KEY REFERENCES submission (id),
  blob TEXT NOT NULL,
  size INTEGER NOT NULL,
  sha256 BLOB NOT NULL,
  stored_at INTEGER NOT NULL
);

-- What filers are asked to stage again; a row goes when it is no longer needed.
CREATE TABLE repair (
  cursor INTEGER PRIMARY KEY AUTOINCREMENT,
  submission INTEGER NOT NULL UNIQUE REFERENCES submission (id),
  -- One byte for each fragment index, ascending.
  indexes BLOB NOT NULL,
  asked_at INTEGER NOT NULL
);

-- How a submission ended; its note lies beside the status, behind the token.
CREATE TABLE outcome (
  submission INTEGER PRIMARY KEY REFERENCES submission (id),
  outcome TEXT NOT NULL,
  -- Canonical JSON [{"code", "text"}].
  reasons TEXT NOT NULL DEFAULT '[]',
  -- Empty where no header could be read.
  token BLOB NOT NULL,
  decided_at INTEGER NOT NULL
);
"""

_SECOND: Final = """
-- When the relay acknowledged that it may delete the fragment; `fate` stays what it was.
ALTER TABLE fragment ADD COLUMN released_at INTEGER;
CREATE INDEX fragment_unreleased ON fragment (relay, submission) WHERE released_at IS NULL;

-- All n encoded descriptors as recomputed from the envelope, canonical MessagePack.
ALTER TABLE envelope ADD COLUMN descriptors BLOB NOT NULL DEFAULT x'90';

-- Relays that do not answer the collector, or only nonsense, and since when.
CREATE TABLE relay_silence (
  call TEXT NOT NULL,
  relay TEXT NOT NULL,
  since INTEGER NOT NULL,
  PRIMARY KEY (call, relay)
) WITHOUT ROWID;

-- What opening found in an envelope: a row is written once, faults may follow while unpacking.
CREATE TABLE reading (
  submission INTEGER PRIMARY KEY REFERENCES submission (id),
  call TEXT NOT NULL,
  -- submission.bin, NULL where none could be read; filer and slot only where it is believed.
  signed BLOB,
  filer BLOB,
  slot TEXT,
  fault_outcome TEXT,
  fault_code TEXT,
  fault_text TEXT,
  -- Of what was unpacked into the inbox.
  is_unpacked INTEGER NOT NULL DEFAULT 0,
  form TEXT,
  file_count INTEGER,
  size INTEGER
);
CREATE INDEX reading_slot ON reading (call, filer, slot);
"""

_THIRD: Final = """
-- Filers whom the destination knows. `change` numbers the transaction that wrote the row last,
-- so that a running serve reads only what is new to it.
CREATE TABLE filer (
  key BLOB PRIMARY KEY CHECK (length(key) = 32),
  name TEXT NOT NULL,
  added_at INTEGER NOT NULL,
  revoked_at INTEGER,
  change INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX filer_change ON filer (change, key);

-- The admissions of a call's file `admissions`; those with a ticket have its place in the log.
CREATE TABLE admission (
  call TEXT NOT NULL,
  hash BLOB NOT NULL CHECK (length(hash) = 32),
  filer BLOB NOT NULL,
  data BLOB NOT NULL,
  log_index INTEGER,
  PRIMARY KEY (call, hash)
) WITHOUT ROWID;
CREATE UNIQUE INDEX admission_ticketed ON admission (call, log_index) WHERE log_index IS NOT NULL;
CREATE INDEX admission_filer ON admission (call, filer) WHERE log_index IS NOT NULL;

-- How far that file has been read into `admission`, in bytes, and the log into its `log_index`.
ALTER TABLE call ADD COLUMN admissions_read INTEGER NOT NULL DEFAULT 0;
ALTER TABLE call ADD COLUMN admitted INTEGER NOT NULL DEFAULT 0;
"""

_FOURTH: Final = """
-- It is the root of a tree of hashes (docs/spec/fragments.md, tree hash).
ALTER TABLE envelope RENAME COLUMN sha256 TO envelope_hash;
"""

MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _SECOND, _THIRD, _FOURTH)
"""The n-th leads to version n. Add to them; never change one that anybody has run."""


async def open_database(path: Path) -> Database:
    """The server's database at ``path``, made if it is missing.

    Raises:
        UnavailableError: Another process holds it for too long.
        StorageError: It is damaged or of a newer program, or the disk failed.
    """
    return await Database.open(path, migrations=MIGRATIONS, journal_mode="DELETE")
