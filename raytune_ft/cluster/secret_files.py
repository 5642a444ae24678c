"""Recognises files that must never be uploaded: those that look like keys, or like an endpoint's prompt logs."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

_CHUNK_BYTES = 4 * 1024 * 1024
_OVERLAP_BYTES = 512
"""Overlap of two chunks; it is longer than any match, so that none is cut in two."""
_KEY_NAMES = (
    "keys.json", "*.key", "*.pem", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.ovpn", "*.tfstate",
    ".env", ".env.*", "*.env", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd", ".git-credentials",
    "credentials", "credentials.*", "secrets.*", "auth_token", "kubeconfig", "service_account*.json",
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".gcloud",
)  # fmt: skip
_KEY_FILE = re.compile(
    r"id_[a-z0-9_]+(\.pub)?"  # as ssh-keygen names a pair
    # A word for a secret, as the name of a text or settings file; token.py is code, and tokens.txt is a vocabulary.
    r"|(((api|access|auth|hf)[_-]?)?token|(api|access|secret)[_-]?keys?|secrets?|passwords?)"
    r"(\.(txt|json|ya?ml|toml|ini|cfg|csv))?"
)
_BACKUP = re.compile(r"(~|\.bak|\.old|\.orig)+$")
_RECORDS = ("serve_log", "access-*.jsonl", "refused-*.jsonl", "requests-*.jsonl", "feedback-*.jsonl")


def _token(begins: bytes, form: bytes, not_behind: bytes = rb"\w") -> bytes:
    """Returns a pattern for a token with a fixed prefix, in plain text or right after an escape of JSON or of a URL.

    Such escapes are `\\n`, `\\u003d` and `%3D`. The pattern starts with the literal prefix, because `re` finds that 50
    times faster than an alternative; what must not precede the token is therefore checked after the prefix.

    Args:
        begins: The token's literal prefix.
        form: Pattern of the rest of the token.
        not_behind: Pattern of a character that must not precede the token.
    """
    escapes = rb"\\[bfnrt]", rb"\\u[0-9A-Fa-f]{4}", rb"%[0-9A-F]{2}"
    places = (rb"(?<!%b%b)" % (not_behind, begins), *(rb"(?<=%b%b)" % (each, begins) for each in escapes))
    return rb"%b(?:%b)%b" % (begins, b"|".join(places), form)


def _assigned(value: bytes) -> bytes:
    """Returns a pattern for a value assigned to the name before it by `=` or `:`, with quotes that may be escaped."""
    return rb"[\s\"'\\]{0,6}[=:][\s\"'\\]{0,6}" + value


def _compiled(*forms: tuple[str, bytes]) -> tuple[tuple[str, re.Pattern[bytes]], ...]:
    return tuple((what, re.compile(form)) for what, form in forms)


_CONTENTS = _compiled(
    ("a private key", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("a Hugging Face token", _token(rb"hf_", rb"[A-Za-z0-9]{30,}")),
    ("a model provider's API key", _token(rb"sk-", rb"(?=[\w-]*[0-9])[A-Za-z0-9_-]{20,}", rb"[\w-]")),
    ("an AWS access key", _token(rb"AKIA", rb"[0-9A-Z]{16}(?!\w)")),
    ("an AWS access key", _token(rb"ASIA", rb"[0-9A-Z]{16}(?!\w)")),
    ("a GitHub token", _token(rb"gh[oprsu]_", rb"[A-Za-z0-9]{36}")),
    ("a GitHub token", _token(rb"github_pat_", rb"\w{22,}")),
    ("a GitLab token", _token(rb"glpat-", rb"[\w-]{20,}")),
    ("a Slack token", _token(rb"xox[abeoprs]-", rb"[\w-]{10,}")),
    ("a Google API key", _token(rb"AIza", rb"[\w-]{35}")),
    ("an npm token", _token(rb"npm_", rb"[A-Za-z0-9]{36}")),
    ("a PyPI token", _token(rb"pypi-AgE", rb"[\w-]{16,}")),
    ("a signed token (JWT)", _token(rb"eyJ", rb"[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}")),
    ("a key in an assignment", rb"_API_KEY" + _assigned(rb"[\w/+-]{20,}")),
    ("a key in an assignment", rb"_ACCESS_KEY" + _assigned(rb"[\w/+-]{20,}")),
    (
        "a key in an assignment",
        rb"_TOKEN(?:(?<=HF_TOKEN)|(?<=API_TOKEN)|(?<=AUTH_TOKEN)|(?<=ACCESS_TOKEN))" + _assigned(rb"[\w/+-]{20,}"),
    ),
    ("an endpoint's API key", _token(rb"rft_", rb"[\w-]{43}")),
    ("an endpoint's file of keys", rb"\"keys\"\s*:\s*\[\s*\{\s*\"name\"\s*:[^{}]{1,200}\"sha256\""),
    ("an endpoint's records", rb"\{\"time\": ?\"[^\"]{10,40}\", ?\"(?:request|key)\": ?"),
)
# In lower case these are also names in code, whose values are names; a key contains a digit.
_RANDOM = rb"(?=[a-z_/+-]{0,60}[0-9])[\w/+-]{20,}(?![\w(\[]|\.\w)"
# Excludes placeholders for a password in examples, and references to where it is stored.
_NO_PASSWORD = rb"(?!(?:my|your)?[_-]?(?:password|passwd|pass|pwd|pw|secret)\W|\.\.\.|[*$<{]|%[s(]|x{2,}\W)"
_CONTENTS_IN_SMALL_LETTERS = _compiled(
    ("a key in an assignment", rb"api[_-]?key" + _assigned(_RANDOM)),
    ("a key in an assignment", rb"access[_-]?key" + _assigned(_RANDOM)),
    (
        "a key in an assignment",
        rb"_token(?:(?<=hf_token)|(?<=api_token)|(?<=auth_token)|(?<=access_token))" + _assigned(_RANDOM),
    ),
    (  # after a host comes a port, and after an image's name its tag
        "a password in a URL",
        rb"://[^\s:/@\"'`<>\\]{0,64}:(?![0-9]{1,5}[^\w@])"
        + _NO_PASSWORD
        + rb"[^\s/\"'`<>\\]{1,128}@(?!sha256:)[\w.\[]",
    ),
    (
        "a password in a URL",
        rb"password=(?:(?<=[?&]password=)|(?<=[?&]sslpassword=))" + _NO_PASSWORD + rb"[^\s&\"'`<>\\]{3}",
    ),
)


def secret_by_name(path: PurePath) -> str | None:
    """Returns the kind of secret that a path's names suggest, or None."""
    names = [_BACKUP.sub("", part.lower()) for part in path.parts]
    if names and _KEY_FILE.fullmatch(names[-1]):
        return "is named like a key"
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in _KEY_NAMES):
            return "is named like a key"
        if any(fnmatchcase(name, pattern) for pattern in _RECORDS):
            return "is named like an endpoint's records, which hold prompts"
    return None


def secret_in_content(path: Path) -> tuple[int, str] | None:
    """Returns the number of the first line that looks like a secret and its kind, or None; reads in chunks.

    Raises:
        OSError: The file can't be read.
    """
    before, line = b"", 1
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK_BYTES):
            text = before + piece
            if found := _first(text):
                at, what = found
                return line + text.count(b"\n", 0, at), what
            before = text[-_OVERLAP_BYTES:]
            line += text.count(b"\n", 0, len(text) - len(before))
    return None


def secret_in_text(text: str) -> str | None:
    """Returns the kind of secret that `text` seems to contain, or None."""
    found = _first(text.encode())
    return found[1] if found else None


def _first(text: bytes) -> tuple[int, str] | None:
    texts = (_CONTENTS, text), (_CONTENTS_IN_SMALL_LETTERS, text.lower())
    found = [(match.start(), what) for forms, text in texts for what, form in forms if (match := form.search(text))]
    return min(found, default=None)
