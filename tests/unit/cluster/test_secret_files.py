"""What looks like a secret, and what only has words in common with one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path, PurePath

import pytest

from raytune_ft.cluster.secret_files import secret_by_name, secret_in_content, secret_in_text

ROOT = Path(__file__).parents[3]
HEX = "0123456789abcdef" * 2 + "01234567"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKENS = {
    "a Hugging Face token": "hf_" + "A" * 34,
    "a model provider's API key": "sk-proj-" + "a1" * 12,
    "an AWS access key": "AKIA" + "A1" * 8,
    "a GitHub token": "ghp_" + "a" * 36,
    "an npm token": "npm_" + "a" * 36,
    "an endpoint's API key": "rft_" + "a" * 43,
}


@pytest.mark.parametrize("what", TOKENS)
@pytest.mark.parametrize("before", ["", " ", ":", "\n", "\t", "\r\n", "\\", "\u00e9"])
def test_a_token_in_a_row_of_json_is_found_whatever_stands_before_it(what: str, before: str) -> None:
    row = {"text": f"my token{before}{TOKENS[what]}\nthanks"} if before else TOKENS[what]
    assert secret_in_text(json.dumps(row)) == what
    assert secret_in_text(json.dumps({"row": json.dumps(row)})) == what


@pytest.mark.parametrize("what", TOKENS)
def test_a_token_in_a_query_is_found(what: str) -> None:
    assert secret_in_text(f"https://host/x?next=%2Fy%3Fa%3D{TOKENS[what]}") == what


@pytest.mark.parametrize("text", ["disk-2024-01-01-of-the-old-cluster", "aAKIA" + "A1" * 8, "nhf_" + "A" * 34])
def test_the_end_of_a_longer_word_is_no_token(text: str) -> None:
    assert secret_in_text(text) is None


@pytest.mark.parametrize(
    "text",
    [
        f"aws_secret_access_key = {SECRET_KEY}",
        f"AWS_SECRET_ACCESS_KEY={SECRET_KEY}",
        f"wandb_api_key: {HEX}",
        f"# WANDB_API_KEY={HEX}",
        f"apiKey: '{HEX}'",
        f"curl -H 'x-api-key: {HEX}'",
        json.dumps({"text": json.dumps({"OPENAI_API_KEY": "abcdefghijklmnopqrstuvwxyz"})}),
        json.dumps({"text": json.dumps({"hf_token": HEX})}),
    ],
)
def test_a_key_that_is_assigned_is_found_in_large_and_small_letters(text: str) -> None:
    assert secret_in_text(text) == "a key in an assignment"


@pytest.mark.parametrize(
    "text",
    [
        "# storage: postgresql://u:hunter2@db/x",
        "redis://:hunter2@cache:6379/0",
        "HTTPS://Ann:12345@host",
        "mysql+pymysql://u:p%40ss@[::1]:3306/x",
        "postgresql://db/x?user=u&sslpassword=hunter2",
        json.dumps({"text": "connect to\npostgresql://u:hunter2@db/x\nplease"}),
    ],
)
def test_a_password_in_a_url_is_found(text: str) -> None:
    assert secret_in_text(text) == "a password in a URL"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://user:password@host/db",
        "postgresql://me:***@db/x and postgresql://me:$PGPASSWORD@db/x",
        "https://<name>:<token>@host, https://{user}:{token}@host",
        "http://localhost:8000/models/base@3 and http://localhost:8000, or mail ann@example.org",
        "docker://alpine:3.19@sha256:0123",
        "git+ssh://git@github.com:org/repo.git@v1",
        "self.api_key = configuration_of_the_endpoint.first_key",
        "api_key=read_the_key_of_version_2(path)",
        "access_key: the name of the key, of 20 letters or more",
        "the api_key: internationalization",
    ],
)
def test_prose_code_and_places_for_a_password_are_no_secrets(text: str) -> None:
    assert secret_in_text(text) is None


SECRET_NAMES = (
    "secret.yaml", "secrets.yaml", "id_rsa.bak", "id_rsa.pub~", "server.key.bak", "keys.json.old.orig", "api_keys.json",
    "token", ".huggingface/token", "HF_TOKEN.txt", "access-host-1.jsonl", "requests-host.jsonl.bak", "serve_log/x",
)  # fmt: skip
ORDINARY_NAMES = (
    "token.py", "tokens.txt", "tokenizer.json", "special_tokens_map.json", "added_tokens.json", "cli/serving/keys.py",
    "api_keys.py", "secrets/readme.md", "token/x.py", "requests.jsonl", "train.jsonl.bak", "model.safetensors",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_of_a_secret_is_known(name: str) -> None:
    assert secret_by_name(PurePath("data") / name)


@pytest.mark.parametrize("name", ORDINARY_NAMES)
def test_a_name_with_such_a_word_in_it_is_none(name: str) -> None:
    assert secret_by_name(PurePath("data") / name) is None


def test_nothing_that_this_project_ships_is_taken_for_a_secret() -> None:
    folders = ("raytune_ft", "docs", "experiments", "search_spaces", "clusters", "serve", "README.md")
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listed.stdout.split()
    assert len(files) > 100
    assert not [file for file in files if secret_by_name(PurePath(file)) or secret_in_content(ROOT / file)]
