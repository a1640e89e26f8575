"""About: the formula, the words, the source."""

import streamlit as st

st.markdown(
    r"""
# About Blockscape

Blockscape shows which transformer blocks a language model can lose, by the energy landscape of all the ways
to remove them (after *Block removal for large language models through constrained binary optimization*,
arXiv 2602.00161).

**The formula.** Every block $i$ gets a gate $\alpha_i$ on its attention and FFN outputs; $\alpha_i = 1$ is
the trained model, $\alpha_i = 0$ removes the block. Each calibration sample $s$ gives one row of gradients
$A_{si} = \partial\,\mathrm{loss}_s / \partial \alpha_i$ at $\alpha = 1$. Then

$$
H_0 = \frac{1}{m} A^{\mathsf T} A, \qquad
E(x) = x^{\mathsf T} H_0\, x = \sum_{i \in x} H_{ii} + 2 \sum_{i<j \in x} H_{ij},
\qquad \sum_i x_i = M,
$$

with $x_i = 1$ for a removed block. With $x = (1 + s)/2$ this is an Ising model at fixed magnetisation.
Lower energy predicts a smaller loss after removal. It is a prediction: the best pruned model is often not
the ground state.

| word | what it means here |
|---|---|
| block | one transformer layer: attention and FFN |
| state | one choice of $M$ removed blocks, written as their list |
| energy $E$ | predicted damage of a state; $\Delta E$ is counted from the ground state |
| own cost, pairs | $\sum H_{ii}$ and $2 \sum H_{ij}$: what blocks cost alone, and cost or save together |
| ground state, excited state | the state of lowest energy, and any other |
| gap, degeneracy | distance from the ground level to the next level; number of states in the ground level |
| swap, minimum | put one removed block back and remove another; a state that no swap lowers |
| basin | the states that steepest descent takes to a minimum |
| barrier | the energy that every path from a minimum to a lower one must cross |
| barrier tree | minima as leaves at their energies, joined at the barriers between them |
| temperature, ensemble | every state with the weight $e^{-E/T}$: at $T = 0$ the ground state alone |
| blocks changed | removed blocks that the ground state keeps; the Hamming distance is twice that |
| Pearson diversity | 1 minus the largest Pearson coefficient of a state to another picked state |
| exact | none of all states below the stated energy is missing from the list, and that is proved |

**Domain mix.** Every row knows the domain of its text. As sampled, all rows weigh the same; with a mix the
rows of each domain weigh its share in total, so $H = \sum_d p_d\, H_d$. The rank interval resamples rows
with these weights.

**Estimators.** *paper · H₀* uses the texts' own tokens, *sampled · H₁* tokens sampled from the model; both
are in squared gradients, not nats. *hybrid* rescales the correlations of H₁ by the measured loss increase
of removing each block alone and is in nats.

**Limits.** States are listed for up to 256 blocks: by enumeration where that is quicker, else by branch and
bound, with the proof in words. Models are causal language models whose blocks are one stack. All of it also
runs from the command line: `python -m core --help`.
"""
)
