"""Pages without a browser."""

import pytest
from streamlit.runtime.pages_manager import PagesManager


@pytest.fixture(autouse=True)
def pages_of_the_app(monkeypatch):
    """AppTest runs a page of the folder pages/ alone, as Streamlit does without what pages.shared.serving
    tells it.
    """
    begin = PagesManager.__init__

    def told(self, *args, **options):
        PagesManager.uses_pages_directory = False
        begin(self, *args, **options)

    monkeypatch.setattr(PagesManager, "__init__", told)
