"""Blockscape: page configuration, navigation, what every page has, and how it is served."""

from pathlib import Path

import streamlit as st

from pages.shared.parts import job_chip
from pages.shared.serving import own_addresses, serving
from pages.shared.view import keep_view, send_again

ASSETS = Path(__file__).parent / "assets"


def show() -> None:
    """The page that is asked for, below the navigation."""
    st.set_page_config(page_title="Blockscape", page_icon=str(ASSETS / "icon.svg"), layout="wide")
    st.logo(str(ASSETS / "logo.svg"), size="large")
    st.html(ASSETS / "app.css")
    keep_view()
    navigation = st.navigation(
        [
            st.Page("pages/explore.py", title="Explore", default=True),
            st.Page("pages/calibrate.py", title="Model & calibration"),
            st.Page("pages/couplings.py", title="Couplings"),
            st.Page("pages/landscape.py", title="Landscape"),
            st.Page("pages/compare.py", title="Compare"),
            st.Page("pages/heal.py", title="Heal"),
            st.Page("pages/take_home.py", title="Take home"),
            st.Page("pages/jobs.py", title="Jobs"),
            st.Page("pages/about.py", title="About"),
        ],
        position="top",
    )
    send_again(navigation.url_path)
    job_chip()  # links to a page, so it comes after them
    navigation.run()


if __name__ == "__main__":  # the script, which Streamlit runs for every visit
    show()
else:  # what `streamlit run app.py` serves
    app = st.App(__file__, routes=own_addresses(), lifespan=serving)
