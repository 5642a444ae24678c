"""What must never be uploaded: files that look like keys, or like records of what an endpoint was asked."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

_CHUNK_BYTES = 4 * 1024 * 1024
_OVERLAP_BYTES = 512
"""More than the longest match needs, so that none is cut in two between chunks."""
_KEY_NAMES = (
    "keys.json", "*.key", "*.pem", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.ovpn", "*.tfstate",
    ".env", ".env.*", "*.env", ".netrc", "_netrc", ".pgpass", ".npmrc", ".pypirc", ".htpasswd", ".git-credentials",
    "credentials", "credentials.*", "secrets.*", "auth_token", "kubeconfig", "service_account*.json",
    ".ssh", ".gnupg", ".aws", ".azure", ".kube", ".gcloud",
)  # fmt: skip
_KEY_PAIR = re.compile(r"id_[a-z0-9_]+(\.pub)?")
_RECORDS = ("serve_log",)

# Each begins with its literal, which `re` looks for 50 times as fast as for an alternative; what may not stand before
# it is asked for behind it.
_CONTENTS = tuple(
    (what, re.compile(form))
    for what, form in (
        ("a private key", rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
        ("a Hugging Face token", rb"hf_(?<!\whf_)[A-Za-z0-9]{30,}"),
        ("a model provider's API key", rb"sk-(?<![\w-]sk-)(?=[\w-]*[0-9])[A-Za-z0-9_-]{20,}"),
        ("an AWS access key", rb"AKIA(?<!\wAKIA)[0-9A-Z]{16}(?!\w)"),
        ("an AWS access key", rb"ASIA(?<!\wASIA)[0-9A-Z]{16}(?!\w)"),
        ("a GitHub token", rb"gh[oprsu]_(?<!\w....)[A-Za-z0-9]{36}"),
        ("a GitHub token", rb"github_pat_(?<!\wgithub_pat_)\w{22,}"),
        ("a GitLab token", rb"glpat-(?<!\wglpat-)[\w-]{20,}"),
        ("a Slack token", rb"xox[abeoprs]-(?<!\w.....)[\w-]{10,}"),
        ("a Google API key", rb"AIza(?<!\wAIza)[\w-]{35}"),
        ("an npm token", rb"npm_(?<!\wnpm_)[A-Za-z0-9]{36}"),
        ("a PyPI token", rb"pypi-AgE(?<!\wpypi-AgE)[\w-]{16,}"),
        ("a signed token (JWT)", rb"eyJ(?<!\weyJ)[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]{10,}"),
        ("a key in an assignment", rb"_API_KEY[\"']?\s{0,4}[=:]\s{0,4}[\"']?[\w/+-]{20,}"),
        ("a key in an assignment", rb"_ACCESS_KEY[\"']?\s{0,4}[=:]\s{0,4}[\"']?[\w/+-]{20,}"),
        (
            "a key in an assignment",
            rb"_TOKEN(?:(?<=HF_TOKEN)|(?<=API_TOKEN)|(?<=AUTH_TOKEN)|(?<=ACCESS_TOKEN))"
            rb"[\"']?\s{0,4}[=:]\s{0,4}[\"']?[\w/+-]{20,}",
        ),
        ("an endpoint's API key", rb"rft_(?<!\wrft_)[\w-]{43}"),
        ("an endpoint's file of keys", rb"\"keys\"\s*:\s*\[\s*\{\s*\"name\"\s*:[^{}]{1,200}\"sha256\""),
        ("an endpoint's records", rb"\{\"time\": ?\"[^\"]{10,40}\", ?\"(?:request|key)\": ?"),
    )
)


def secret_by_name(path: PurePath) -> str | None:
    """What a path's names say that it is, or None where they say nothing of a secret."""
    if _KEY_PAIR.fullmatch(path.name.lower()):
        return "is named like a key"
    for name in (part.lower() for part in path.parts):
        if any(fnmatchcase(name, pattern) for pattern in _KEY_NAMES):
            return "is named like a key"
        if name in _RECORDS:
            return "is named like an endpoint's records, which hold prompts"
    return None


def secret_in_content(path: Path) -> tuple[int, str] | None:
    """The first line that looks like a secret, and what it looks like; files of any size and kind are read in pieces.

    Raises:
        OSError: It can't be read.
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
    """What a secret in `text` looks like, or None."""
    found = _first(text.encode())
    return found[1] if found else None


def _first(text: bytes) -> tuple[int, str] | None:
    found = [(match.start(), what) for what, form in _CONTENTS if (match := form.search(text))]
    return min(found, default=None)
