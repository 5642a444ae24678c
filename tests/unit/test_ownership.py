"""Directories that somebody else made (fault 33)."""

from __future__ import annotations

import errno
import os
import pwd
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raytune_ft import api, ownership
from raytune_ft.config.experiment import Experiment
from raytune_ft.errors import InputError
from raytune_ft.events.stream import nobody
from raytune_ft.ownership import check_own, writes_for_oneself
from raytune_ft.paths import RunDirectory
from raytune_ft.search.single import train_once
from raytune_ft.search.study.driver import only_driver
from raytune_ft.search.sweep import run_sweep


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "runs" / "toy")
    run.trials.mkdir(parents=True)
    for path in (run.experiment, run.study, run.winner, run.evaluation):
        path.write_text("")
    return run


@pytest.fixture
def experiment(run: RunDirectory) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "toy",
            "base_model": "base",
            "data": {"train": "train.jsonl"},
            "search": {"space": {"parameters": {"method.r": {"choice": [4, 8]}}}},
            "output_dir": str(run.root.parent),
        }
    )


@pytest.fixture
def somebody_elses(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Makes a path look as if another user owned it."""
    real = ownership._all_of

    def marked(root: Path, path: Path) -> Iterator[tuple[Path, os.stat_result]]:
        for each, status in real(root):
            yield each, os.stat_result((*status[:4], 54321, *status[5:])) if each == path else status

    def mark(path: Path) -> None:
        monkeypatch.setattr(ownership, "_all_of", lambda root: marked(root, path))

    return mark


def test_ones_own_run_and_one_that_is_not_there_yet_are_fine(run: RunDirectory, tmp_path: Path) -> None:
    check_own(run, trust=False)
    check_own(RunDirectory(tmp_path / "new"), trust=False)


@pytest.mark.parametrize("part", ["root", "experiment", "study", "trials", "winner", "evaluation"])
def test_fault_33_a_run_that_somebody_else_made_is_refused_without_trust(
    run: RunDirectory, part: str, somebody_elses: Callable[[Path], None]
) -> None:
    path = getattr(run, part)
    somebody_elses(path)
    with pytest.raises(InputError) as caught:
        check_own(run, trust=False)
    assert str(caught.value).startswith(f"{path}: belongs to user id 54321, and restoring from it trusts whoever")
    assert str(caught.value).endswith("look at what is in there, then add --trust")
    check_own(run, trust=True)


def test_fault_33_every_way_to_restore_a_run_asks(
    run: RunDirectory, experiment: Experiment, somebody_elses: Callable[[Path], None]
) -> None:
    somebody_elses(run.study)
    ways: dict[str, Callable[[], object]] = {
        "sweep --resume": lambda: run_sweep(experiment, nobody, resume=True),
        "sweep --extend": lambda: api.run_sweep(experiment, extend=3),
        "train --resume": lambda: train_once(experiment, nobody, resume=True),
        "evaluate": lambda: api.evaluate(run),
        "promote": lambda: api.promote(run),
    }
    for name, restore in ways.items():
        with pytest.raises(InputError, match="add --trust"):
            restore()
            pytest.fail(name)


def test_fault_33_an_earlier_run_to_learn_from_is_one_that_is_restored(
    run: RunDirectory, experiment: Experiment, tmp_path: Path, somebody_elses: Callable[[Path], None]
) -> None:
    earlier = RunDirectory(tmp_path / "runs" / "earlier")
    earlier.root.mkdir()
    somebody_elses(earlier.root)
    search = experiment.search.model_copy(update={"warm_start": [str(earlier.root)]})
    with pytest.raises(InputError, match=r"earlier: belongs to .* add --trust"):
        run_sweep(experiment.model_copy(update={"search": search}), nobody)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_fault_33_the_owner_on_the_disk_counts(run: RunDirectory) -> None:
    os.chown(run.study, 1, -1)
    with pytest.raises(InputError, match=r"study\.db: belongs to .*\(user id 1\)"):
        check_own(run, trust=False)


def test_a_run_directory_that_a_group_or_everybody_can_write_lets_them_plant_a_proof(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_private_group", lambda: None)
    checkpoints = run.trials / "0001" / "checkpoints"
    checkpoints.mkdir(parents=True)
    for path in (run.root, run.evaluation, checkpoints):
        for mode, who in ((0o020, "the group "), (0o002, "everybody")):
            before = path.stat().st_mode
            path.chmod(before | mode)
            with pytest.raises(InputError) as caught:
                check_own(run, trust=False)
            assert str(caught.value).startswith(f"{path}: can be written by {who}")
            assert str(caught.value).endswith(f"then chmod -R go-w {run.root}, or add --trust")
            check_own(run, trust=True)
            path.chmod(before)
    check_own(run, trust=False)


def test_a_group_of_the_user_alone_is_nobody_else(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    run.root.chmod(0o775)
    monkeypatch.setattr(ownership, "_private_group", lambda: run.root.stat().st_gid)
    check_own(run, trust=False)
    run.root.chmod(0o777)
    with pytest.raises(InputError, match="can be written by everybody"):
        check_own(run, trust=False)


def refused(run: RunDirectory) -> str:
    with pytest.raises(InputError) as caught:
        check_own(run, trust=False)
    check_own(run, trust=True)
    return str(caught.value)


def test_what_a_link_leads_to_is_a_part_of_the_run(run: RunDirectory, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "deep").mkdir(parents=True)
    file = there / "deep" / "study.db"
    file.write_text("")
    (there / "back").symlink_to(run.root)
    (run.root / "directory").symlink_to(there)
    (run.root / "file").symlink_to(file)
    (run.root / "round").symlink_to(run.root / "round")
    check_own(run, trust=False)
    for path, mode in ((file, 0o666), (there / "deep", 0o777), (there, 0o777)):
        before = path.stat().st_mode
        path.chmod(mode)
        said = refused(run)
        assert said.startswith(f"{path} (a link in {run.root} leads there): can be written by everybody")
        assert f"then chmod go-w {path}, or add --trust" in said
        path.chmod(before)
    check_own(run, trust=False)


def test_a_link_must_not_lead_to_where_others_can_put_something(run: RunDirectory, tmp_path: Path) -> None:
    there = tmp_path / "there"
    (there / "own").mkdir(parents=True)
    link = run.root / "link"
    link.symlink_to(there / "own")
    there.chmod(0o777)
    assert refused(run).startswith(f"{there} (a link in ")
    there.chmod(0o1777)  # as /tmp, in which nobody can rename what is another's
    check_own(run, trust=False)
    link.unlink()
    link.symlink_to(there / "not" / "yet")
    assert refused(run).startswith(f"{there} (a link in ")
    link.unlink()
    link.symlink_to("/not/yet")  # the system's directories are root's to write
    tmp_path.chmod(0o777)  # and those in which the run itself is are not the link's to answer for
    check_own(run, trust=False)
    tmp_path.chmod(0o1777)
    link.unlink()
    link.symlink_to(tmp_path / "not-yet")  # but what is not there, everybody can make there too
    assert refused(run).startswith(f"{tmp_path} (a link in ")


USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def acl(*entries: tuple[int, int, int], mask: int = 7) -> bytes:
    """As Linux writes it: of everybody else the permissions are to read."""
    nobody = 0xFFFFFFFF
    given = {tag for tag, _, _ in entries}
    base = [(USER_OBJ, 7, nobody), (GROUP_OBJ, 4, nobody), (MASK, mask, nobody), (OTHER, 4, nobody)]
    every = sorted((*entries, *(each for each in base if each[0] not in given)))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *each) for each in every)


@pytest.mark.parametrize(
    ("listed", "writers"),
    [
        (acl((USER, 6, 54321)), "user id 54321"),
        (acl((USER, 4, 1), (USER, 7, 54321)), "user id 54321"),
        (acl((GROUP, 2, 54321)), "the group group id 54321"),
        (acl((GROUP_OBJ, 6, 0xFFFFFFFF)), "the group group id 999999"),
        (acl((OTHER, 6, 0xFFFFFFFF), mask=4), "everybody"),
        (b"\x03\0\0\0", "somebody"),
        (b"", "somebody"),
        (acl((USER, 7, os.geteuid())), None),
        (acl((USER, 7, 54321), (GROUP, 7, 54321), (GROUP_OBJ, 7, 0xFFFFFFFF), mask=5), None),
        (acl((USER, 5, 54321), (GROUP, 5, 54321)), None),
    ],
)
def test_an_access_control_list_says_who_may_write(listed: bytes, writers: str | None) -> None:
    found = ownership._writers_of_acl(listed, 999999, own_group=7)
    assert found == writers if writers is None else (found or "").startswith(f"{writers}, by an access control list")
    assert ownership._writers_of_acl(acl((GROUP_OBJ, 7, 0xFFFFFFFF), (GROUP, 7, 7)), 7, own_group=7) is None


@pytest.mark.parametrize(("part", "kind"), [("root", "access"), ("study", "access"), ("trials", "default")])
def test_a_writer_in_an_access_control_list_is_not_hidden_by_the_users_own_group(
    run: RunDirectory, part: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path = getattr(run, part)
    monkeypatch.setattr(ownership, "_private_group", lambda: path.stat().st_gid)

    def getxattr(asked: Path, name: str) -> bytes:
        if (asked, name) == (path, f"system.posix_acl_{kind}"):
            return acl((USER, 6, 54321))
        raise OSError(errno.ENODATA, "No data available")

    monkeypatch.setattr(os, "getxattr", getxattr)
    path.chmod(path.stat().st_mode | 0o020)  # the list's mask
    said = refused(run)
    assert said.startswith(f"{path}: can be written by user id 54321, by an access control list, and restoring")
    assert said.endswith(f"then setfacl -R -b {run.root}, or add --trust")


@pytest.mark.parametrize(
    ("number", "trusted"), [(errno.ENODATA, True), (errno.ENOTSUP, True), (errno.ENOSYS, True), (errno.EIO, False)]
)
def test_a_file_system_without_access_control_lists_has_none(
    run: RunDirectory, number: int, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def getxattr(asked: Path, name: str) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "getxattr", getxattr)
    if trusted:
        check_own(run, trust=False)
    else:
        assert "an access control list that can't be read" in refused(run)


def test_a_group_that_is_another_users_primary_one_is_not_private(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = pwd.getpwuid(os.geteuid())
    users = tmp_path / "passwd"
    monkeypatch.setattr(ownership, "_PASSWD", users)
    assert not ownership._other_users_of(me.pw_gid, me.pw_name), "a machine without that file"
    own = f"# a comment\n+::::::\n{me.pw_name}:x:{me.pw_uid}:{me.pw_gid}::/:/bin/sh\nelse:x:54321:54321::/:/bin/sh\n"
    users.write_text(own)
    private = ownership._private_group()
    assert not ownership._other_users_of(me.pw_gid, me.pw_name)
    users.write_text(f"{own}other:x:54322:{me.pw_gid}::/:/bin/sh\n")
    assert ownership._other_users_of(me.pw_gid, me.pw_name)
    assert private in (me.pw_gid, None) and ownership._private_group() is None


def test_what_a_run_writes_is_for_its_user_alone_whatever_the_umask(tmp_path: Path) -> None:
    run, before = RunDirectory(tmp_path / "runs" / "new"), os.umask(0o000)
    try:
        with only_driver(run):
            (run.root / "tune").mkdir()
            (run.root / "tune" / "state.json").write_text("{}")
        check_own(run, trust=False)
        assert (run.root.stat().st_mode & 0o777, run.root.parent.stat().st_mode & 0o777) == (0o755, 0o777)
        with writes_for_oneself():
            pass
        assert os.umask(0o000) == 0o000, "the user's own is back"
    finally:
        os.umask(before)


def test_nothing_of_ours_unpickles() -> None:
    """What lies in a run is JSON, safetensors, Arrow and SQLite; Ray Tune's own state is never read."""
    package = Path(ownership.__file__).parent
    words = ("pickle.load", "torch.load(", "Tuner.restore", "weights_only=False", "allow_pickle=True")
    found = [f"{path.name}: {word}" for path in package.rglob("*.py") for word in words if word in path.read_text()]
    assert not found
