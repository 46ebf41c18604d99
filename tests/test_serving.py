"""notebooks/voila.json: the options that the README's command serves chapter 12 with."""

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """What Voilà makes of its options, when it is started in the folder of the notebooks."""
    from voila.app import Voila

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT / "notebooks")
        patch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path_factory.mktemp("none")))
        app = Voila()
        app.load_config_file("voila", path=app.config_file_paths)
        return app


def test_a_closed_page_is_forgotten_within_a_minute(served):
    """A kernel without a page is ended at the first look after the time that it may be idle."""
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

    kernels = AsyncMappingKernelManager(config=served.config)
    assert 0 < kernels.cull_idle_timeout + kernels.cull_interval < 60
    assert not kernels.cull_connected and not kernels.cull_busy  # an open page keeps its kernel


def test_only_this_computer_is_served(served):
    """Until somebody says otherwise; and a visitor sees no traceback."""
    assert served.config.Voila.ip == "127.0.0.1"
    assert not served.config.VoilaConfiguration.show_tracebacks


def test_extensions_of_nbgrader_are_left_out(served):
    """Voilà's page cannot load them."""
    denied = served.config.VoilaConfiguration.extension_denylist
    assert set(denied) == {"@jupyter/nbgrader", "@jupyter-notebook/lab-extension"}


def test_the_readme_uses_them():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "cd notebooks && voila 12_inspector.ipynb" in text and "voila.json" in text
