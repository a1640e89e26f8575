// Numbers and lists of units in words.

const SUPERSCRIPTS = "⁻⁰¹²³⁴⁵⁶⁷⁸⁹";

export const superscript = (n) => String(n).replace(/./g, (c) => SUPERSCRIPTS["-0123456789".indexOf(c)]);

export const significant = (v, digits = 3) => {
  if (v === 0 || !isFinite(v)) return "0";
  const size = Math.floor(Math.log10(Math.abs(v)));
  return (
    size < -4 ? v.toExponential(digits - 1) : v.toFixed(Math.min(6, Math.max(0, digits - 1 - size)))
  ).replaceAll("-", "−");
};

export const signed = (v, digits) => (v > 0 ? "+" : v < 0 ? "−" : "") + significant(Math.abs(v), digits);

export const plus = (v, digits = 2) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(digits);

export const increase = ([mean, se]) => [plus(mean, 4), se === null ? "" : `± ${se.toFixed(4)} nats`];

export const amount = (n) =>
  n >= 1e9
    ? (n / 1e9).toFixed(2) + " B"
    : n >= 1e6
      ? (n / 1e6).toFixed(2) + " M"
      : n >= 1e3
        ? (n / 1e3).toFixed(0) + " k"
        : String(n);

// of numbers that follow each other; names of parts of blocks stand alone
export const runsOf = (blocks) => {
  const runs = [];
  for (const b of blocks) {
    const last = runs[runs.length - 1];
    if (last && last[1] === b - 1) last[1] = b;
    else runs.push([b, b]);
  }
  return runs;
};

export const ranges = (blocks) =>
  runsOf(blocks)
    .map(([a, b]) => (b > a + 1 ? `${a}–${b}` : b > a ? `${a}, ${b}` : `${a}`))
    .join(", ");

const SHORT = { attention: "attn", convolution: "conv" };

// a kind of branch, where there is room for five letters
export const shortKind = (kind) => SHORT[kind] ?? kind.slice(0, 5);

// "3, 7-9, 12a" as sorted units, as core.ising.units.Units.parse reads it; a sentence where it cannot be read
export const parseUnits = (text, model) => {
  const found = new Set();
  for (const part of text
    .split(",")
    .map((p) => p.trim())
    .filter(Boolean)) {
    const { problem, units = [] } = unitsOfPart(part, model);
    if (problem) return { problem };
    for (const u of units) {
      if (found.has(u)) return { problem: `${model.titled(u).toLowerCase()} is named twice` };
      found.add(u);
    }
  }
  return { units: [...found].sort((a, b) => a - b) };
};

const unitsOfPart = (part, model) => {
  const half = /^([0-9]{1,4})([a-z][0-9]?)$/.exec(part);
  const match = /^([0-9]{1,4})(?:\s*[-–]\s*([0-9]{1,4}))?$/.exec(part);
  if (!match && !(half && model.halved)) {
    const what = model.halved ? "a block, a range or a branch; write 3, 7-9, 12a" : WHOLE;
    return { problem: `“${part.slice(0, 20)}” is not ${what}` };
  }
  const first = Number((half ?? match)[1]);
  const last = half ? first : Number(match[2] ?? match[1]);
  if (last >= model.columns)
    return { problem: `block ${last} does not exist: there are blocks 0 to ${model.columns - 1}` };
  if (half) return unitNamed(first, half[2], model);
  if (last < first) return { problem: `the range ${part} runs backwards` };
  return { units: model.unitsOf.slice(first, last + 1).flat() };
};

const WHOLE = "a block or a range; write 3, 7-9, 20";

const unitNamed = (block, letter, model) => {
  const unit = model.number.get(`${block}${letter}`);
  const has = model.unitsOf[block].map((u) => model.names[u]).join(", ");
  if (unit === undefined) return { problem: `block ${block} has no “${block}${letter}”; it has ${has}` };
  return { units: [unit] };
};
