"""What each kind of job does: one module a kind, with `run(request, progress)`, called by the worker.

Most load torch at the top, so only workers import them; `core.jobs.kinds` has what everybody may know of
a kind. `solve` is light: the app asks it for requests and reads its results.
"""
