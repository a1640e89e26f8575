// Numbers and lists of blocks in words.

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

// "3, 7-9" as sorted blocks, as core.ising.states.parse_blocks reads it; a sentence where it cannot be read
export const parseBlocks = (text, blocks) => {
  const found = new Set();
  for (const part of text
    .split(",")
    .map((p) => p.trim())
    .filter(Boolean)) {
    const match = /^([0-9]{1,4})(?:\s*[-–]\s*([0-9]{1,4}))?$/.exec(part);
    if (!match) return { problem: `“${part.slice(0, 20)}” is not a block or a range; write 3, 7-9, 20` };
    const first = Number(match[1]);
    const last = Number(match[2] ?? match[1]);
    if (last >= blocks)
      return { problem: `block ${last} does not exist: there are blocks 0 to ${blocks - 1}` };
    if (last < first) return { problem: `the range ${part} runs backwards` };
    for (let b = first; b <= last; b++) {
      if (found.has(b)) return { problem: `block ${b} is named twice` };
      found.add(b);
    }
  }
  return { blocks: [...found].sort((a, b) => a - b) };
};
