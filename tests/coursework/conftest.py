"""A course for all tests, released once; those that change it get a copy."""

import shutil

import pytest

from tests.coursework import making

import common  # isort: skip - found by answers.py


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """A course with the last assignment released."""
    return making.new_course(tmp_path_factory.mktemp("course"), making.LAST)


@pytest.fixture(scope="session")
def course(original):
    """That course, for tests that do not leave anything in it; modules may have one of their own."""
    return original


@pytest.fixture(scope="session")
def another(original):
    """A function that makes a copy of that course in a folder."""

    def copied(folder):
        shutil.copytree(original, folder)
        common.settle(folder)
        return folder

    return copied


@pytest.fixture
def fresh(another, tmp_path):
    """A course of the test's own."""
    return another(tmp_path / "course")
