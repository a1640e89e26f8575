"""Blockscape: page configuration, navigation, and what every page has."""

from pathlib import Path

import streamlit as st

from pages.shared.parts import job_chip
from pages.shared.view import keep_view

ASSETS = Path(__file__).parent / "assets"

st.set_page_config(page_title="Blockscape", page_icon=str(ASSETS / "icon.svg"), layout="wide")
st.logo(str(ASSETS / "logo.svg"), size="large")
st.html(ASSETS / "app.css")
keep_view()
navigation = st.navigation(
    [
        st.Page("pages/explore.py", title="Explore", default=True),
        st.Page("pages/calibrate.py", title="Model & calibration"),
        st.Page("pages/couplings.py", title="Couplings"),
        st.Page("pages/compare.py", title="Compare"),
        st.Page("pages/jobs.py", title="Jobs"),
        st.Page("pages/about.py", title="About"),
    ],
    position="top",
)
job_chip()  # links to a page, so it comes after them
navigation.run()
