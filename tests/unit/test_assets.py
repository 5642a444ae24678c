"""What the assets are made of, without the network; `tests/integration/test_assets_real.py` fetches them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import raytune_ft.assets.fetch as assets_module
from raytune_ft.assets.fetch import Assets, fetch_assets
from raytune_ft.assets.sentences import label, split, to_rows, write_sentences
from raytune_ft.assets.sources import SENTENCES_SDIST, check_hash, download
from raytune_ft.errors import IntegrityError, RaytuneError

CORPORA = {
    "tweets": "tweets_GroundTruth.txt",
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "products": "amazonReviewSnippets_GroundTruth.txt",
    "news": "nytEditorialSnippets_GroundTruth.txt",
}


@pytest.fixture
def sdist(tmp_path: Path) -> Path:
    """An archive inside an archive, as the source distribution has it, with ten sentences in each corpus."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for member in CORPORA.values():
            _add(
                archive,
                f"hutto_ICWSM_2014/{member}",
                "".join(f"{i}\t2.5\tsentence {i}\r\n" for i in range(10)).encode(),
            )
    path = tmp_path / "sdist.tar.gz"
    with tarfile.open(path, mode="w:gz") as archive:
        _add(archive, "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    return path


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, sdist: Path) -> None:
    """Fetches from the fixture; the model is one small file."""

    def convert(wheel: Path, target: Path, scratch: Path) -> None:
        target.mkdir()
        (target / "config.json").write_text("{}")

    monkeypatch.setattr(assets_module, "download", lambda sources, directory: [Path("wheel"), sdist])
    monkeypatch.setattr(assets_module, "convert_model", convert)


@pytest.mark.parametrize(
    ("rating", "expected"),
    [(4, "positive"), (0.21, "positive"), (0.2, "neutral"), (0, "neutral"), (-0.2, "neutral"), (-0.21, "negative")],
)
def test_labels_are_the_papers(rating: float, expected: str) -> None:
    assert label(rating) == expected


def test_a_sentence_becomes_a_prompt_and_one_word() -> None:
    assert to_rows("1\t-2.0\tToo  long &amp;amp; too dull.\r\n", "Review") == [
        {"prompt": "Review: Too long & too dull.\nSentiment:", "completion": " negative"}
    ]


def test_a_sentence_stands_once_whatever_its_case_and_spaces() -> None:
    rows = to_rows("1\t3\tSo good.\n2\t-3\tso  GOOD. \n3\t1\tFine.\n", "Tweet")
    assert [row["prompt"] for row in rows] == ["Tweet: So good.\nSentiment:", "Tweet: Fine.\nSentiment:"]


def test_the_split_is_fixed_and_no_sentence_is_on_both_sides() -> None:
    rows = [{"prompt": str(index), "completion": " positive"} for index in range(100)]
    train, test = split(rows)
    assert (len(train), len(test)) == (80, 20)
    assert split(rows) == (train, test)
    assert sorted(row["prompt"] for row in train + test) == sorted(row["prompt"] for row in rows)


def test_every_corpus_is_written_as_train_and_test(sdist: Path, tmp_path: Path) -> None:
    write_sentences(sdist, tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == sorted(f"{corpus}.{part}.jsonl" for corpus in CORPORA for part in ("train", "test"))
    lines = (tmp_path / "data" / "news.train.jsonl").read_text().splitlines()
    assert len(lines) == 8
    assert json.loads(lines[0])["prompt"].startswith("News: sentence ")


def test_another_file_is_refused_in_one_line_with_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / SENTENCES_SDIST.filename
    path.write_bytes(b"something else")
    with pytest.raises(
        IntegrityError, match=rf"expected sha256 {SENTENCES_SDIST.sha256}, got [0-9a-f]{{64}}"
    ) as caught:
        check_hash(path, SENTENCES_SDIST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("stderr", "error", "message"),
    [
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"
            "    vaderSentiment==3.3.2 from https://example.org/x.tar.gz (from -r requirements.txt (line 2)):\n"
            "        Expected sha256 aaaa\n             Got        bbbb\n",
            IntegrityError,
            r"^assets: vaderSentiment==3\.3\.2: expected sha256 aaaa, got bbbb; your index serves another file$",
        ),
        (
            "WARNING: Retrying\nERROR: Could not find a version\nERROR: No matching distribution found for x==1\n",
            RaytuneError,
            r"^assets: pip download failed: No matching distribution found for x==1; check the network",
        ),
    ],
)
def test_what_pip_says_becomes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, error: type[Exception], message: str
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", stderr))
    with pytest.raises(error, match=message):
        download((SENTENCES_SDIST,), tmp_path)


@pytest.mark.usefixtures("offline")
def test_a_second_fetch_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "assets"
    lines: list[str] = []
    first = fetch_assets(target, lines.append)
    assert first == Assets(target, target / "smollm2-135m-instruct", target / "data", reused=False)
    assert len(lines) == 4 and all(line.endswith(" s)") for line in lines)
    monkeypatch.setattr(assets_module, "download", lambda *_: pytest.fail("downloaded again"))
    assert fetch_assets(target, lines.append).reused


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("harm", ["remove", "truncate"])
def test_a_damaged_file_is_made_again(tmp_path: Path, harm: str) -> None:
    target = tmp_path / "assets"
    path = fetch_assets(target, print).data / "news.test.jsonl"
    whole = path.read_bytes()
    path.unlink() if harm == "remove" else path.write_bytes(whole[:-1])
    assert not fetch_assets(target, print).reused
    assert path.read_bytes() == whole


@pytest.mark.usefixtures("offline")
def test_a_stopped_fetch_leaves_nothing_and_what_a_killed_one_left_is_cleared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "assets"
    (target / ".fetching-killed" / "downloads").mkdir(parents=True)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(assets_module, "convert_model", stopped)
        fetch_assets(target, print)
    assert [path.name for path in target.iterdir()] == [".lock"]
    assert not fetch_assets(target, print).reused


@pytest.mark.usefixtures("offline")
def test_the_users_own_files_stay(tmp_path: Path) -> None:
    mine = tmp_path / "assets" / "data" / "mine.jsonl"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assets = fetch_assets(tmp_path / "assets", print)
    assert mine.read_text() == "mine"
    assert (assets.data / "movies.train.jsonl").is_file()


@pytest.mark.usefixtures("offline")
def test_a_place_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "assets").write_text("a file")
    with pytest.raises(RaytuneError, match=r"^assets: .*choose another place with --to$"):
        fetch_assets(tmp_path / "assets", print)


def test_a_python_without_pip_is_told_how_to_get_it() -> None:
    from raytune_ft.assets.sources import _failure

    assert "run `python -m ensurepip`" in str(_failure("/usr/bin/python3: No module named pip\n"))


def test_a_fetch_leaves_setuptools_usable_in_its_process(tmp_path: Path) -> None:
    """Looking pip up makes setuptools' stand-in for distutils step aside, and torch's cpp_extension fails."""
    code = (
        "import sys, subprocess; subprocess.run = lambda *a, **k: sys.exit('no network in this test')\n"
        "from pathlib import Path; from raytune_ft.assets.sources import MODEL_WHEEL, download\n"
        "try: download((MODEL_WHEEL,), Path(sys.argv[1]))\n"
        "except SystemExit: pass\n"
        "import setuptools, distutils; assert '_distutils' in distutils.__file__, distutils.__file__"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
