// words for people from physics and from machine learning: shown in the help, and where the pointer rests
export const GLOSSARY = [
  ["state", "one way to remove M units, a bit string with M ones; for ML people: one pruned model"],
  ["unit", "what is removed as one: a whole block (12), or by branch its attention (12a) or its FFN (12f)"],
  [
    "energy E",
    "what the couplings predict the removal to cost, xᵀHx; lower is better. It is a proxy of " +
      "the loss increase, in the units named beside the couplings",
  ],
  ["ΔE", "energy above the ground state"],
  ["ground state", "the state of lowest energy; for ML people: the predicted best choice of M units"],
  [
    "gap",
    "energy from the ground level to the next one: below the noise of the sample, the choice " +
      "between them is open",
  ],
  [
    "minimum",
    "a state that no single swap (one unit back, another out) lowers: a local optimum, the " +
      "bottom of a valley",
  ],
  [
    "valley",
    "a minimum and all states from which steepest descent, one swap after the other, ends in it; also called its " +
      "basin",
  ],
  [
    "barrier",
    "the energy that every way of swaps from one state to another must reach, taken over the easiest way; exact " +
      "up to the last listed energy",
  ],
  [
    "tree",
    "disconnectivity graph: minima are leaves at their energies, and two branches join at the barrier between " +
      "them; a leaf far below its join is a choice of its own",
  ],
  [
    "temperature T",
    "a state of energy E has the weight exp(−E/T): T = 0 is the ground state alone, and with it the more states " +
      "count, as if energies were uncertain by about T",
  ],
  [
    "degenerate level",
    "states whose energies are equal within the tolerance; a line through them carries their number",
  ],
  [
    "own cost",
    "Σ Hᵢᵢ over the removed blocks: what removing each alone is predicted to cost, the fields of " +
      "physics",
  ],
  [
    "pairs",
    "2 Σ Hᵢⱼ over pairs of removed blocks: what removing both costs more (+) or less (−) " +
      "than each alone, the interactions",
  ],
  [
    "spin view",
    "s = +1 removed, −1 kept: E = Σ hᵢsᵢ + Σ Jᵢⱼsᵢsⱼ + const, with J = H/2 and hᵢ half the " + "row sum",
  ],
  [
    "Pearson",
    "correlation of two bit strings: +1 the same choice, 0 as alike as chance, the overlap of spin glasses",
  ],
  [
    "rank, 95 %",
    "where a state would stand among the lowest had other samples been drawn (bootstrap of " +
      "the calibration texts)",
  ],
  ["depth", "removed blocks in the first, middle and last third of the model"],
  ["runs", "neighbouring removed blocks: a long run cuts one hole, many runs thin the model out"],
];

export const EXPLAINED = new Map(GLOSSARY);
