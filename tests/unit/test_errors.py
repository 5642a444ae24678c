"""Errors are one line, and survive the way between processes."""

from __future__ import annotations

import pickle

from raytune_ft.errors import InputError, IntegrityError, RaytuneError


def test_an_input_error_is_place_value_and_remedy_on_one_line() -> None:
    assert str(InputError("a.yaml:3", "is\n  wrong", "fix it")) == "a.yaml:3: is wrong; fix it"
    assert str(InputError("a.yaml:3", "is wrong")) == "a.yaml:3: is wrong"
    assert str(InputError("a", "b", "c", ("d", "e"))).splitlines() == ["a: b; c", "d", "e"]


def test_an_input_error_comes_out_of_a_pickle_whole() -> None:
    again = pickle.loads(pickle.dumps(InputError("a", "b", "c", ("d",))))
    assert (again.where, again.what, again.remedy, again.others) == ("a", "b", "c", ("d",))
    assert str(again) == str(InputError("a", "b", "c", ("d",)))


def test_exit_codes_tell_wrong_input_from_a_failed_run() -> None:
    assert (InputError.exit_code, RaytuneError.exit_code, IntegrityError.exit_code) == (2, 1, 1)
    assert issubclass(InputError, ValueError) and issubclass(IntegrityError, RaytuneError)
