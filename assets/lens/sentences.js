// The line below the panels: what the pointer is on, else what is selected.
import { significant } from "./wording.js";

const both = (m, i, j) =>
  m.halved ? `${m.titled(i)} and ${m.titled(j)}` : `Blocks ${m.names[i]} and ${m.names[j]}`;

const pairSentence = ({ model: m, spin }, [i, j]) => {
  const unit = m.unitText;
  const v = m.h(i, j);
  if (i === j) return `${m.titled(i)}: own cost H = ${m.show(v)}${unit}.`;
  const coupling = spin ? `J = ${m.show(v / 2)}${unit}, ` : "";
  const more = v === 0 ? "as much as" : `${m.show(Math.abs(2 * v))}${unit} ${v > 0 ? "more" : "less"} than`;
  return `${both(m, i, j)}: ${coupling}H = ${m.show(v)}${unit}; removing both costs ${more} each alone.`;
};

const often = (share) => {
  const percent = Math.round(100 * share);
  if (share === 1) return "in every listed state";
  if (share === 0) return "in no listed state";
  if (percent === 100) return "in nearly every listed state";
  if (percent === 0) return "in hardly any listed state";
  return `in ${percent} % of the listed states`;
};

const unitSentence = (lens, unit, strip) => {
  const m = lens.model;
  const kind = m.kinds.length ? ` (${m.kinds[unit]})` : "";
  const cost = `${m.show(m.h(unit, unit))}${m.unitText}`;
  const rule = lens.keep.includes(unit)
    ? "; it always stays"
    : lens.remove.includes(unit)
      ? "; it always goes"
      : "";
  const warning = m.warnings[unit] ? `; ${m.warnings[unit]}` : "";
  const click = !strip ? "" : lens.finder.draft ? ". Click: removed, put back" : ". Click: stays, goes, free";
  const removed = often(m.frequency[unit]);
  const heat = lens.barcode.thermometer.sentence(unit);
  return `${m.titled(unit)}${kind}: removed ${removed}${heat}, own cost ${cost}${rule}${warning}${click}.`;
};

const markSentence = ({ model: m }, mark) =>
  `${mark.label}: ${mark.reason}. It removes ${m.said(mark.removed)}; ${m.place(m.of(mark.removed))}.`;

const draftSentence = ({ finder, model }) => {
  const removes = finder.draft.length ? `removes ${model.said(finder.draft)}; ` : "";
  return `By hand: ${removes}${finder.words()}`.replace(/\.?$/, ".");
};

const valley = ({ shape, minima }, k) =>
  shape.valley[k] < 0 ? "" : `, in the valley of #${minima[shape.valley[k]]}`;

const joinSentence = ({ model: m }, i) => {
  const { shape, minima } = m;
  const [one, other] = [minima[shape.parent[i]], minima[i]];
  const height = `${significant(shape.barrier(i))}${m.unitText}`;
  return (
    `Barrier between #${one} and #${other}: ΔE ${m.exact ? "" : "at most "}${height}, over state ` +
    `${shape.saddle[i]}; #${other} lies ${significant(shape.depth(i))}${m.unitText} below it.`
  );
};

const stateSentence = ({ model: m, hovered }, state) => {
  const k = state.rank;
  if (k === undefined) return `This state removes ${m.said(state.units)}; ${m.place(state)}.`;
  const height =
    k === 0
      ? m.show(m.energy[0]) + m.unitText
      : `${significant(m.delta(k))}${m.unitText} above the ${m.first}`;
  const kind =
    k === 0
      ? `the ${m.first}`
      : m.minimum[k]
        ? "a minimum: no single swap lowers it"
        : `not a minimum${valley(m, k)}`;
  const level = m.onLevel(k) > 1 ? `; one of ${m.onLevel(k)} states on its level` : "";
  const slice = hovered.slice ? `; the lowest of ${hovered.slice} in this slice` : "";
  return `State ${k} removes ${m.said(state.units)}; energy ${height}; ${kind}${level}${slice}.`;
};

export const sentence = (lens) => {
  const { hovered, model } = lens;
  if (hovered.pair) return pairSentence(lens, hovered.pair);
  if (hovered.unit !== undefined) return unitSentence(lens, hovered.unit, hovered.strip);
  if (hovered.mark !== undefined) return markSentence(lens, lens.marks[hovered.mark]);
  if (hovered.join !== undefined) return joinSentence(lens, hovered.join);
  if (hovered.state !== undefined) return stateSentence(lens, model.of(model.state(hovered.state)));
  return lens.finder.draft ? draftSentence(lens) : stateSentence(lens, lens.here);
};
