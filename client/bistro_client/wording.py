"""The words of the client that stand in no other part of the catalogue, by name.

With ``messages``, ``peer_messages`` and ``notices`` this is everything that the program says to
people, but for the manuals (``--help``): whoever translates it finds it here, and nowhere else.

Source: docs/decisions/0032-what-the-client-says.md.
"""

from __future__ import annotations

from typing import Final

SAYINGS: Final[dict[str, str]] = {
    # carrying
    "carrying.fragment-no-relay": "fragment {index}: no relay took it",
    # claiming
    "claiming.claim-expected-sealed": "claim: expected a sealed submission with its ticket",
    # completion
    "completion.bash-zsh-fish": "bash, zsh and fish are",
    "completion.this-shell-not": "{shell}: this shell is not known",
    # contact
    "contact.terms-expected-at": "terms: expected at most {MAX_TERMS} versions, found more",
    "contact.terms-expected-those": "terms: expected those of {origin}, found those of {origin_2}",
    "contact.ticket-expected-an": "ticket: expected an entry after {entries}",
    # courier
    "courier.claim-expected-sealed": "claim: expected a sealed submission with its ticket",
    "courier.expected-new-or": "{out}: expected a new or an empty folder",
    "courier.name-another-one": "name another one with --out",
    # discarding
    "discarding.submission-expected-one": "submission: expected one that was never sealed",
    # doctor
    "doctor.as-pinned": "as pinned",
    "doctor.computed-by": "computed by {name}",
    "doctor.first-submission-makes": "the first submission makes one, or `bistro keys new`",
    "doctor.in-system-s": "in the system's keyring, ",
    "doctor.make-private-chmod": "make it private: chmod 600 {path}",
    "doctor.next": "         next: {hint}",
    "doctor.not-looked-at": "not looked at",
    "doctor.not-pinned-yet": "not pinned yet: the first submission does that",
    "doctor.off-destination-s": "{offset_ms} off the destination's (good to about 1 s)",
    "doctor.others-may-read": "{path}: others may read it",
    "doctor.plain-http-on": "plain HTTP, on this machine or as you allowed",
    "doctor.relays-can-be": "{usable} of {probes} relays can be used",
    "doctor.sealing-needs-room": (
        "sealing needs as much room as your files take, until they are collected"
    ),
    "doctor.server-does-not": "the server does not say its time",
    "doctor.set-this-machine": (
        "set this machine's clock; what counts is the destination's time all the same"
    ),
    "doctor.terms-name-fewer": "the terms name fewer relays than fragments",
    "doctor.there-none-yet": "{path}: there is none yet",
    "doctor.there-protected-by": "{path}: there, protected by a passphrase",
    "doctor.with-libisal-debian": "; with libisal (Debian: libisal2) large filings are cut faster",
    "doctor.writable-durable-gb": "{root}: writable and durable, {free:,.1f} GB free",
    # evidence_file
    "evidence_file.expected-terms-found": "{terms}: expected the terms, found none",
    # feeding
    "feeding.archive-bytes-were": "archive: {room} bytes were asked for behind its end",
    "feeding.link-now": "it is a link now",
    "feeding.no-file-any": "it is no file any more",
    "feeding.was-written-meanwhile": "it was written to meanwhile",
    # forecast
    "forecast.ahead": "ahead of",
    "forecast.clock-destination-does": "clock: the destination does not say what time it is",
    "forecast.clock-yours-destination": (
        "clock: yours is {offset_ms} {side} the destination's, give or take a second; "
        "only the destination's counts"
    ),
    "forecast.disk-until-they": "disk: {disk_size} until they are collected, {free_size} are free",
    "forecast.files-with-allowed": (
        "files: {file_count:,} with {size}; allowed are {files_limit:,} and {envelope_limit}"
    ),
    "forecast.in-time": "in time",
    "forecast.left-out": "left out: {problem}",
    "forecast.ms-away-load": "{latency_ms:.0f} ms away, load {load:.0%}",
    "forecast.sealing-about-on": "sealing: about {sealing_ms} on this machine",
    "forecast.staging-must-reach": (
        "staging: {needed_size} must reach {k} relays by {stage_by}; that takes at least "
        "{least_line_bits} from now on"
    ),
    "forecast.too-late-be": "it is too late to be sure: the last moment to start was {at}",
    "forecast.you-are-not": (
        "you are NOT on time; start now all the same: `bistro submit` gets you a ticket, "
        "or a signed refusal that proves your attempt"
    ),
    "forecast.you-can-be": "YOU CAN BE ON TIME: start by {at}",
    # journal
    "journal.expected-id-found": "expected id {folder}, found {submission}",
    # keyring
    "keyring.filer-s-key": "the filer's key",
    "keyring.key-expected-reference": (
        "key: expected a reference to the system's keyring, found another text"
    ),
    # keys
    "keys.expected-keyring-or": "expected --keyring or a passphrase, found both",
    "keys.files-submissions-keep": (
        "{done}: {file_count} files, {submission_count} submissions; keep it safe"
    ),
    "keys.in-system-s": "{key}, in the system's keyring",
    "keys.keep-copy-away": "keep a copy away from this machine: bistro keys backup FILE",
    "keys.key-public-key": "key: {place}\npublic key: {hex}\nfingerprint: {fingerprint}",
    "keys.no-keys-yet": "no keys yet: bistro keys new",
    "keys.passphrase-new-key": "passphrase of the new key",
    # known_servers
    "known_servers.check-address-if": (
        "check the address; if the destination confirms the new name, give its key with --trust"
    ),
    "known_servers.expected-server-which": (
        "{url}: expected the server {pin}, which was pinned at this address, found one "
        "that calls itself {name}"
    ),
    "known_servers.known-servers": "known servers",
    "known_servers.list-known-servers": "the list of known servers",
    # main
    "main.bug-in-bistro": "a bug in bistro: {name}: {error}",
    "main.nothing-lost-run": "nothing is lost: run the command again",
    "main.what-you-submitted": (
        "what you submitted is safe and `bistro resume` may go on; please report {file}"
    ),
    # options
    "options.expected-bits-second": "{value!r}: expected bits a second such as 500k, 1M or 2.5M",
    "options.expected-characters-found": (
        "expected 1 to {MAX_FORM_LENGTH} characters, found {value}; nothing was sent"
    ),
    "options.expected-duration-such": "{value!r}: expected a duration such as 90s, 10m or 2h",
    "options.expected-passphrase-on": "{path}: expected a passphrase on the first line",
    "options.give-whole-vkey": "give the whole vkey, as the destination publishes it",
    "options.key-has-passphrase": "{path}: the key has a passphrase and there is nobody to ask",
    "options.name-file-with": "name a file with --passphrase-file",
    "options.nothing-was-sent": "{exc}; nothing was sent",
    "options.passphrase": "passphrase of {path}",
    "options.passphrase-not-utf": "{path}: the passphrase is not UTF-8",
    "options.trust": "--trust: {exc}",
    # output
    "output.error": "error: ",
    "output.next": "next: ",
    "output.try-again-bistro": "try again; `bistro doctor` may know more",
    "output.warning": "warning: ",
    # oversight
    "oversight.many-times-slower": "it is many times slower than the others",
    "oversight.took-no-byte": "it took no byte for {silent_s:.0f} s",
    # presenting
    "presenting.receipts-destination-says": "receipts: the destination says {answer}",
    "presenting.receipts-expected-receipt": "receipts: expected a receipt",
    # printing
    "printing.check": (
        "Signed by {signer}, fingerprint {fingerprint}. This page is for people; check "
        "the proof with {command}."
    ),
    "printing.entry-log": "entry of the log",
    "printing.files": "Files",
    "printing.holds-until": "holds until",
    "printing.manifest-missing": "{manifest}: the manifest is missing",
    "printing.nobody-yet": "nobody yet",
    "printing.on-time": "on time",
    "printing.receipt-for-an": "Receipt for an amendment",
    "printing.receipt-for-submission": "Receipt for a submission",
    "printing.receipt-for-withdrawal": "Receipt for a withdrawal",
    "printing.ticket": "The ticket",
    "printing.who": "Who holds it",
    # probing
    "probing.accepts-no-uploads": "accepts no uploads now",
    "probing.answers-nothing-relay": "answers nothing that a relay would",
    "probing.does-not-serve": "does not serve {server}",
    "probing.shows-another-key": "shows another key than the terms name",
    # receipt
    "receipt.open-print": "{target}: open it and print",
    # rehearse
    "rehearse.file-test-submissions": "file test submissions at {url}, call {call}?",
    "rehearse.nothing-was-sent": "nothing was sent; give --yes if it is",
    "rehearse.there-nobody-ask": "{call}: there is nobody to ask whether this call is for tests",
    # rehearsing
    "rehearsing.an-amendment": "an amendment",
    "rehearsing.file-does-not": "a file that does not exist",
    "rehearsing.folder-without-files": "a folder without files",
    "rehearsing.folders-empty-files": "folders, empty files, names of other scripts",
    "rehearsing.more-bytes-than": "more bytes than the call allows",
    "rehearsing.on-time": "on time and {state}",
    "rehearsing.on-time-2": "on time and {state}",
    "rehearsing.one-small-file": "one small file",
    "rehearsing.some-megabytes": "some megabytes",
    "rehearsing.two-files-under": "two files under one name",
    # resume
    "resume.error": "error: {folder}: {error}",
    "resume.name-one-bistro": "name one: `bistro status`",
    "resume.next": "next: {hint}",
    "resume.nothing-resume": "nothing to resume",
    "resume.recover-expected-submission": "--recover: expected a submission",
    # running
    "running.bistro-resume-goes": "; `bistro resume` goes on where this stopped",
    "running.evidence": "evidence: {evidence}",
    "running.nothing-sent": (
        "you are NOT on time yet: nothing was sent, and your files are untouched"
    ),
    # seal
    "seal.be-uploaded-until": "to be uploaded until then: {listed}",
    # staging
    "staging.nothing-was-sealed": "nothing was sealed",
    "staging.relay-no-longer": "relay {name}: no longer in the terms",
    # status
    "status.as-last-known": "as last known",
    "status.error": "error: {folder}: {error}",
    "status.next": "next: {hint}",
    "status.no-submissions-yet": "no submissions yet",
    "status.see-below": "see below",
    "status.try-again-later": "try again later",
    # times
    "times.your-time": "{text} ({day}{here:%H:%M:%S} your time)",
    # uploading
    "uploading.fragments-expected-sealed": "fragments: expected a sealed submission, found none",
    "uploading.relay-has-whole": "relay {relay}: has the whole fragment and no receipt for it yet",
    "uploading.relay-refuses-offset": "relay {relay}: refuses the offset that it names",
    # verify
    "verify.compare-fingerprint-above": (
        "compare the fingerprint above with one that you know otherwise and give the "
        "destination's key with --trust, or say --no-trust"
    ),
    "verify.do-not-rely": (
        "do not rely on it; ask whoever gave it for the original, and keep this one"
    ),
    "verify.does-not-hold": "{verdict} does NOT hold: {failed}",
    "verify.expected-trust-or": "expected --trust or --no-trust, found both",
    "verify.files-hold": "{found} of {found_2} files hold",
    "verify.holds-everything-this": (
        "HOLDS: everything that this file claims is proven as said above"
    ),
    "verify.holds-together-but": (
        "{verdict} holds together, but no key that you trust stands behind it"
    ),
    "verify.if-key-in": ", if the key in it is the destination's",
    "verify.not-in-this": "not in this file: {absent}",
    "verify.part-needed-missing": "a part that is needed is missing",
    "verify.shown-by": "       shown by {by}",
    "verify.warning": "warning: {exc}",
    # verifying
    "verifying.about-another-submission": "It is about another submission than {found}.",
    "verifying.about-submission-whose": (
        "It is about the submission of {found}, whose files and filer that shows."
    ),
    "verifying.filed-by-key": "filed by key {filer} to {origin}, slot {slot}, {what} {at}",
    "verifying.key-comes-from": (
        "The key comes from the terms in {found}, signed by {signer} with key {fingerprint}."
    ),
    "verifying.name-certificate-with": "name a certificate with --authority",
    "verifying.refused-at": "and refused at",
    "verifying.says-about-filing": "says that it is about a filing to {origin}",
    "verifying.says-what-promised": "says what {origin} promised at {time}",
    "verifying.terms-name-no": "{origin}: the terms name no such relay",
    "verifying.with-ticket": "with a ticket of",
    # watching
    "watching.outcome-about-another": "outcome: it is about another submission",
    "watching.status-expected-in": (
        "status: expected that of {hex} in {origin}, found {hex_2} in {origin_2}"
    ),
    # wishing
    "wishing.as-key-name": "--as and --key name two keys",
    "wishing.give-one-them": "give one of them",
    # withdraw
    "withdraw.nothing-was-sent": "nothing was sent; give --yes if it shall",
    "withdraw.there-nobody-ask": "{name}: there is nobody to ask whether it shall be withdrawn",
}


def say(key: str, /, **values: object) -> str:
    """What stands in the catalogue under ``key``, with its places filled."""
    return SAYINGS[key].format(**values)
