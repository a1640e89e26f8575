"""The landscape at a temperature: the Boltzmann ensemble of all states that remove M units.

At temperature T a state of energy E has the weight exp(-E / T). ensemble gives what follows for every unit,
exactly where all states can be enumerated or the listed ones hold all weight but a proved share, else from
sampling (sampling: parallel tempering). removal is its part for every unit, at several temperatures at once
and without sampling. density counts states by energy; overlap says how alike two states of
the ensemble are.

Import from the modules: sampling is compiled code, which takes a while to load and which few need.
"""
