"""What pages draw and files hold, from plain arrays: nothing here knows a page.

The lens's data and messages (lens, lens_shape, encoding, messages), Plotly figures by what they show
(coupling_figures, run_figures, measured_figures, palette), and what leaves the app: state_files, snippets,
report.
"""
