"""The command line: one module a command, `main` knows them all.

Nothing here loads torch: long work goes to jobs, the same that the app starts.
"""
