"""Blockscape: which transformer blocks to remove, read from the energy landscape.

The rooms, the highest first. A room imports only from rooms below it (contracts in pyproject.toml,
held by `make lint`):

    cli                     one module for each command of `python -m core`
    job_kinds               what each kind of job does; loads torch
    view         jobs       what pages draw and files hold | worker processes: start, follow, resume
    choose  export  heal    landscapes that learn | a checkpoint, verified | what removal cost, won back
    calibration             sequences -> gradient rows A
    measure                 losses, tasks, behaviour of a model with any blocks removed
    model                   load a model where it fits, gate its blocks, remove them
    forms                   what a pruned model is taken home as: words, records, cards, commands
    blocks       weights    find the blocks of any model | its files, of any format; load torch
    compare                 measured states side by side, results of other tools
    landscape               listed states: candidates, where a state stands, words for it
    thermal                 the ensemble at a temperature, the density of states
    shape                   minima, basins, barriers, paths
    spectrum                the K lowest states, exact, within constraints
    energy                  rows -> couplings H, one function an estimator
    tasks        texts      what is asked of a model | documents -> token sequences
    store                   what lies on disk
    ising                   states of units, and their energies
    errors       ranks      bad input in one sentence | one process or many

What is asked goes down, what is found comes up: a page or a command makes a request (jobs.requests), a worker
runs it (job_kinds), which calls the library; the store keeps what it made, and `energy` reads it from there.

From `blocks` to `export`, and `job_kinds`, modules load torch, but `forms` does not. The others
stay light: the app's process and the command line never load it. Nothing here imports
streamlit.
"""

__version__ = "0.1.0"
