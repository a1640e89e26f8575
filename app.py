"""Blockscape: page configuration and navigation; nothing else."""

from pathlib import Path

import streamlit as st

ASSETS = Path(__file__).parent / "assets"

st.set_page_config(page_title="Blockscape", page_icon=str(ASSETS / "icon.svg"), layout="wide")
st.logo(str(ASSETS / "logo.svg"), size="large")
st.html(ASSETS / "app.css")
st.navigation([st.Page("pages/explore.py", title="Explore", default=True), st.Page("pages/about.py", title="About")], position="top").run()
