"""The couplings as a network of blocks: who pulls on whom, in which groups, in how many directions."""

from dataclasses import dataclass

import networkx as nx
import numpy as np

from core.ising.energies import to_spins

VIEWS = {"H": "H, x = 1 removed", "J": "J = H/2 in spins", "correlation": "Hᵢⱼ / √(Hᵢᵢ Hⱼⱼ)"}


def view_of(H: np.ndarray, view: str) -> np.ndarray:
    """float64 [N, N]: H as one of VIEWS.

    H itself, J of the spin form (zero diagonal), or the correlation of the gate gradients (0 where a block
    has no own cost).
    """
    if view == "H":
        return H
    if view == "J":
        return to_spins(H).J
    scale = np.sqrt(np.diag(H).clip(min=0.0))
    product = np.outer(scale, scale)
    return np.divide(H, product, out=np.zeros_like(H), where=product > 0)


def effective_rank(H: np.ndarray) -> float:
    """exp of the entropy of the eigenvalues' shares, negative ones left out (Roy, Vetterli 2007): 1 to N."""
    values = np.linalg.eigvalsh(H).clip(min=0.0)
    shares = values[values > 0] / values.sum() if values.sum() > 0 else np.ones(1)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def strongest(H: np.ndarray, share: float) -> list[tuple[int, int, float]]:
    """[(i, j, H_ij)], i < j, strongest first: the given share of all pairs by |H_ij|, at least one."""
    i, j = np.triu_indices(len(H), 1)
    order = np.argsort(-np.abs(H[i, j]), kind="stable")[: max(1, round(share * len(i)))]
    return [(int(i[k]), int(j[k]), float(H[i[k], j[k]])) for k in order]


@dataclass(frozen=True)
class Role:
    """A block in the network of |H_ij|."""

    block: int
    own: float  # H_ii
    strength: float  # sum of |H_ij| over the other blocks
    pull: float  # sum of H_ij over the other blocks: > 0 raises the energy of what is removed with it
    centrality: float  # eigenvector centrality, the largest 1
    community: int  # 0 holds the first block


def roles(H: np.ndarray, edges: list[tuple[int, int, float]]) -> list[Role]:
    """The part of every block in the network of the couplings H [N, N].

    Strength, pull and centrality are of all couplings; communities by greedy modularity of the edges, (i, j,
    H_ij) each (Clauset et al. 2004).
    """
    n = len(H)
    size = np.abs(H) - np.diag(np.abs(np.diag(H)))
    values, vectors = np.linalg.eigh(size)
    leading = np.abs(vectors[:, np.argmax(values)])
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_weighted_edges_from((i, j, abs(v)) for i, j, v in edges if v)
    groups = (
        nx.community.greedy_modularity_communities(graph, weight="weight")
        if graph.number_of_edges()
        else [{b} for b in range(n)]
    )
    number = {b: k for k, group in enumerate(sorted(groups, key=min)) for b in group}
    return [
        Role(
            b,
            float(H[b, b]),
            float(size[b].sum()),
            float(H[b].sum() - H[b, b]),
            float(leading[b] / (leading.max() or 1.0)),
            number[b],
        )
        for b in range(n)
    ]
