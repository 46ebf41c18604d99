"""The inspector (chapter 12): ``Inspector()`` in a notebook or served by Voilà.

``Inspector`` is the page, ``State`` what its controls stand at, ``KINDS`` the blurs and ``VIEWS`` the views to choose
from. Each is imported when it is first asked for, so that a state can be read without the widgets.
"""

import importlib

_HOME = {"Inspector": "controller", "State": "state", "KINDS": "state", "VIEWS": "views"}
__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
