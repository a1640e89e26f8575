// The lens of Explore: every panel reads the same data and the same state, so hovering one lights all.
// Base canvases hold what depends on the data; overlays hold selection and hover and are redrawn in one frame.

const PALETTE = {
  light: {
    removed: "#b34e00",
    onRemoved: "#ffffff",
    empty: "#eef1f6",
    muted: "#5b6472",
    line: "#dfe3ea",
    text: "#14181f",
    accent: "#1f6feb",
    ground: "#ffffff",
    positive: [118, 42, 131],
    negative: [27, 120, 55],
    zero: [247, 247, 249],
    ramp: ["#00224e", "#2f3f6b", "#575d6d", "#6f7073", "#8a8678", "#a59c74", "#b08d1f"],
  },
  dark: {
    removed: "#ffb454",
    onRemoved: "#1a1206",
    empty: "#1b222c",
    muted: "#9aa5b4",
    line: "#2c3542",
    text: "#f0f3f7",
    accent: "#6cb0ff",
    ground: "#0f1419",
    positive: [201, 160, 220],
    negative: [127, 211, 154],
    zero: [26, 32, 41],
    ramp: ["#fee838", "#e1cc55", "#c3b369", "#a69d75", "#8f8b86", "#7c8fb5", "#6f9ae0"],
  },
};
const MONO = "ui-monospace, Menlo, Consolas, monospace";
const LEFT = 44;
const RIGHT = 26; // margins shared by the panels that stand in block columns

const decode = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const element = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
};
const button = (textContent, label, onclick, className = "") => {
  const node = element("button", { type: "button", textContent, onclick, className, title: label });
  node.setAttribute("aria-label", label);
  return node;
};
const superscript = (n) => String(n).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
const significant = (v, digits = 3) => {
  if (v === 0 || !isFinite(v)) return "0";
  const size = Math.floor(Math.log10(Math.abs(v)));
  return (
    size < -4 ? v.toExponential(digits - 1) : v.toFixed(Math.min(6, Math.max(0, digits - 1 - size)))
  ).replaceAll("-", "−");
};
const signed = (v, digits) => (v > 0 ? "+" : v < 0 ? "−" : "") + significant(Math.abs(v), digits);
const plus = (v, digits = 2) => (v < 0 ? "−" : "+") + Math.abs(v).toFixed(digits);
const increase = ([mean, se]) => [plus(mean, 4), se === null ? "" : `± ${se.toFixed(4)} nats`];
const amount = (n) =>
  n >= 1e9
    ? (n / 1e9).toFixed(2) + " B"
    : n >= 1e6
      ? (n / 1e6).toFixed(2) + " M"
      : n >= 1e3
        ? (n / 1e3).toFixed(0) + " k"
        : String(n);
const runsOf = (blocks) => {
  const runs = [];
  for (const b of blocks) {
    const last = runs[runs.length - 1];
    if (last && last[1] === b - 1) last[1] = b;
    else runs.push([b, b]);
  }
  return runs;
};
const ranges = (blocks) =>
  runsOf(blocks)
    .map(([a, b]) => (b > a + 1 ? `${a}–${b}` : b > a ? `${a}, ${b}` : `${a}`))
    .join(", ");
const ticks = (from, to, wanted = 5) => {
  const raw = (to - from) / wanted;
  if (!(raw > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from(
    { length: Math.max(0, Math.floor(to / step + 1e-9) - first + 1) },
    (_, i) => (first + i) * step,
  );
};
const mix = (from, to, t) => `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * t)).join(",")})`;
// "3, 7-9" as sorted blocks, as core.ising.states.parse_blocks reads it; a sentence where it cannot be read
const parseBlocks = (text, blocks) => {
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

class Model {
  // Decoded data of one solved landscape; nothing here changes afterwards.
  constructor(data) {
    Object.assign(this, data);
    this.list = decode(data.states, Uint16Array);
    for (const [name, Type] of [
      ["energy", Float64Array],
      ["own", Float64Array],
      ["pearson", Float64Array],
      ["changed", Uint16Array],
      ["minimum", Uint8Array],
      ["matrix", Float64Array],
      ["frequency", Float64Array],
    ])
      this[name] = decode(data[name], Type);
    this.unitText = data.exponent ? ` ·10${superscript(data.exponent)}` : "";
    this.scale = 10 ** -data.exponent;
    this.maxChanged = this.changed.reduce((a, b) => Math.max(a, b), 0);
    this.top = (this.energy[this.count - 1] - this.energy[0]) * this.scale;
    const off = [];
    for (let i = 0; i < this.blocks; i++) for (let j = 0; j < i; j++) off.push(Math.abs(this.h(i, j)));
    off.sort((a, b) => a - b);
    this.maxCoupling = Math.max(off[off.length - 1] || 0, Number.MIN_VALUE);
    const median = Math.max(off[off.length >> 1] || 0, this.maxCoupling * 1e-4);
    this.signedLog = this.maxCoupling > 12 * median;
    this.linearBelow = median;
    this.index = new Map();
    this.mask = new Uint8Array(this.count * this.blocks);
    for (let k = 0; k < this.count; k++) {
      const state = this.state(k);
      this.index.set(state.join("-"), k);
      for (const b of state) this.mask[k * this.blocks + b] = 1;
    }
    this.minima = Array.from({ length: this.count }, (_, k) => k).filter((k) => this.minimum[k]);
    this.levels = []; // [first rank, states]: energies closer than the tolerance are one level
    this.levelOf = new Int32Array(this.count);
    for (let k = 0; k < this.count; k++) {
      const last = this.levels[this.levels.length - 1];
      if (last && this.energy[k] - this.energy[last[0]] <= this.tolerance) last[1] += 1;
      else this.levels.push([k, 1]);
      this.levelOf[k] = this.levels.length - 1;
    }
    this.others = new Map();
  }
  state(k) {
    return Array.from(this.list.subarray(k * this.removed, (k + 1) * this.removed));
  }
  h(i, j) {
    return this.matrix[i * this.blocks + j];
  }
  delta(k) {
    return (this.energy[k] - this.energy[0]) * this.scale;
  }
  show(v, digits) {
    return significant(v * this.scale, digits);
  }
  onLevel(k) {
    return this.levels[this.levelOf[k]][1];
  }
  tone(v) {
    // position of a coupling on the diverging scale, -1..1
    const a = Math.abs(v);
    const t = this.signedLog
      ? Math.log1p(a / this.linearBelow) / Math.log1p(this.maxCoupling / this.linearBelow)
      : a / this.maxCoupling;
    return Math.sign(v) * Math.min(1, t);
  }
  strongestPairs(s, wanted = 3) {
    const pairs = [];
    for (let a = 0; a < s.length; a++)
      for (let b = a + 1; b < s.length; b++) pairs.push([s[a], s[b], 2 * this.h(s[a], s[b])]);
    return pairs.sort((p, q) => Math.abs(q[2]) - Math.abs(p[2])).slice(0, wanted);
  }
  correlation(s, t) {
    // Pearson coefficient of two choices of blocks, of any sizes
    const inT = new Set(t);
    const n = this.blocks;
    const p = s.length / n;
    const q = t.length / n;
    const both = s.filter((b) => inT.has(b)).length / n;
    return (both - p * q) / Math.sqrt(p * (1 - p) * q * (1 - q));
  }
  of(blocks) {
    // what any state is worth, listed or not
    const name = blocks.join("-");
    const rank = this.index.get(name);
    if (rank !== undefined)
      return {
        name,
        blocks,
        rank,
        energy: this.energy[rank],
        own: this.own[rank],
        pearson: this.pearson[rank],
        changed: this.changed[rank],
        minimum: !!this.minimum[rank],
        hash: this.hash[rank],
        delta: this.delta(rank),
        below: rank,
      };
    if (this.others.has(name)) return this.others.get(name);
    let own = 0;
    let pairs = 0;
    for (const i of blocks)
      for (const j of blocks)
        if (i === j) own += this.h(i, i);
        else pairs += this.h(i, j);
    const ground = this.state(0);
    const kept = new Set(ground);
    const energy = own + pairs;
    let below = 0;
    while (below < this.count && this.energy[below] < energy - this.tolerance) below += 1;
    const same = blocks.length === this.removed;
    const found = {
      name,
      blocks,
      energy,
      own,
      pearson: this.correlation(blocks, ground),
      changed: blocks.filter((b) => !kept.has(b)).length,
      minimum: false,
      hash: "",
      delta: same ? (energy - this.energy[0]) * this.scale : null,
      below: same ? below : null,
    };
    this.others.set(name, found);
    return found;
  }
  place(state) {
    // where it stands, in words
    if (state.rank !== undefined)
      return state.rank === 0
        ? `the ${this.first}`
        : `rank ${state.rank}, ΔE ${significant(state.delta)}${this.unitText}`;
    if (state.delta === null)
      return `removes ${state.blocks.length} blocks, the listed states ${this.removed}`;
    const height = `ΔE ${signed(state.delta)}${this.unitText}`;
    return state.below === this.count
      ? `${height}, above all ${this.count} listed`
      : `${height}, not listed; ${state.below} listed states lie below`;
  }
  get first() {
    return this.exact ? "ground state" : "lowest found";
  } // what rank 0 may be called
  nameOf(state) {
    return state.rank !== undefined ? `#${state.rank}` : state.hash || "not listed";
  }
  get spins() {
    // E = sum_{i<j} J_ij s_i s_j + sum_i h_i s_i + offset, s = 2x - 1: J = H / 2, h_i = half the row sum
    if (this.spinForm) return this.spinForm;
    const n = this.blocks;
    const h = new Float64Array(n);
    let trace = 0;
    let total = 0;
    for (let i = 0; i < n; i++) {
      for (let j = 0; j < n; j++) h[i] += this.h(i, j) / 2;
      trace += this.h(i, i);
      total += 2 * h[i];
    }
    return (this.spinForm = { h, offset: (total + trace) / 4 });
  }
  spinParts(state) {
    // [fields, pairs, offset] of its energy
    const { h, offset } = this.spins;
    const up = new Set(state.blocks);
    let fields = 0;
    for (let i = 0; i < this.blocks; i++) fields += up.has(i) ? h[i] : -h[i];
    return [fields, state.energy - fields - offset, offset];
  }
}

const escaped = (text) =>
  String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
const short = (v) => String(Math.round(v * 100) / 100);

class Recorder {
  // The canvas calls that panels make, written down as SVG.
  constructor(name) {
    this.name = name;
    this.parts = [];
    this.path = "";
    this.open = [];
    this.clips = 0;
  }
  beginPath() {
    this.path = "";
  }
  moveTo(x, y) {
    this.path += `M${short(x)} ${short(y)}`;
  }
  lineTo(x, y) {
    this.path += `L${short(x)} ${short(y)}`;
  }
  rect(x, y, w, h) {
    this.path += `M${short(x)} ${short(y)}h${short(w)}v${short(h)}h${short(-w)}z`;
  }
  roundRect(x, y, w, h) {
    this.rect(x, y, w, h);
  }
  arc(x, y, r, from, to) {
    this.ellipse(x, y, r, r, 0, from, Math.min(to, from + 2 * Math.PI));
  }
  ellipse(x, y, rx, ry, turn, from, to) {
    const at = (a) => `${short(x + rx * Math.cos(a))} ${short(y + ry * Math.sin(a))}`;
    const half = (from + to) / 2;
    this.path += `M${at(from)}A${short(rx)} ${short(ry)} 0 0 1 ${at(half)}A${short(rx)} ${short(ry)} 0 0 1 ${at(to)}`;
  }
  save() {
    this.open.push("");
  }
  restore() {
    this.parts.push(this.open.pop());
  }
  clip() {
    const id = `${this.name}-clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}"><path d="${this.path}"/></clipPath><g clip-path="url(#${id})">`);
    this.open[this.open.length - 1] += "</g>";
  }
  fill() {
    this.parts.push(`<path d="${this.path}" fill="${this.fillStyle}"/>`);
  }
  stroke() {
    this.parts.push(
      `<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"/>`,
    );
  }
  fillRect(x, y, w, h) {
    this.parts.push(
      `<rect x="${short(x)}" y="${short(y)}" width="${short(Math.max(0, w))}" height="${short(Math.max(0, h))}" fill="${this.fillStyle}"/>`,
    );
  }
  strokeRect(x, y, w, h) {
    this.parts.push(
      `<rect x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"/>`,
    );
  }
  fillText(text, x, y) {
    const anchor = { center: "middle", right: "end" }[this.textAlign] || "start";
    this.parts.push(
      `<text x="${short(x)}" y="${short(y)}" fill="${this.fillStyle}" text-anchor="${anchor}" dominant-baseline="${this.textBaseline === "middle" ? "central" : "auto"}" style="font:${escaped(this.font)}">${escaped(text)}</text>`,
    );
  }
}

class Panel {
  constructor(lens, className, title) {
    this.lens = lens;
    this.name = className;
    this.title = element("h2", { textContent: title });
    this.note = element("span", { className: "note" });
    this.tools = element("div", { className: "tools" });
    this.base = element("canvas");
    this.over = element("canvas", { className: "over" });
    this.base.setAttribute("aria-hidden", "true");
    this.over.setAttribute("aria-hidden", "true");
    this.plot = element("div", { className: "plot" }, this.base, this.over);
    this.grow = button("⤢", `maximise ${title} (F)`, () => this.lens.maximise(this), "icon");
    this.node = element(
      "section",
      { className: `panel ${className}` },
      element("div", { className: "heading" }, this.title, this.tools, this.note, this.grow),
      this.plot,
    );
    this.node.setAttribute("aria-label", title);
    this.node.addEventListener("pointerenter", () => (this.lens.active = this));
    this.over.addEventListener("pointermove", (e) => this.lens.hover(this.find(e.offsetX, e.offsetY)));
    this.over.addEventListener("pointerleave", () => this.lens.hover({}));
    this.over.addEventListener("click", (e) => {
      const hit = this.find(e.offsetX, e.offsetY);
      if (hit.state !== undefined) this.lens.select(hit.state);
      else if (hit.mark !== undefined) this.lens.open(this.lens.marks[hit.mark].removed);
      else if (hit.strip) this.lens.press(hit.block);
      this.lens.frame.focus({ preventScroll: true });
    });
    this.over.addEventListener(
      "touchstart",
      (e) => (this.touched = [e.touches[0].clientX, e.touches[0].clientY]),
      { passive: true },
    );
    this.over.addEventListener("touchend", (e) => {
      // a swipe is an arrow key
      const [dx, dy] = [
        e.changedTouches[0].clientX - this.touched[0],
        e.changedTouches[0].clientY - this.touched[1],
      ];
      if (Math.abs(dx) > 40 && Math.abs(dx) > 2 * Math.abs(dy)) this.lens.step(dx < 0 ? 1 : -1);
    });
  }
  resize() {
    const { clientWidth: w, clientHeight: h } = this.plot;
    const ratio = window.devicePixelRatio || 1;
    [this.w, this.h] = [w, h];
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    this.ratio = ratio;
  }
  context(canvas) {
    if (this.recorder) {
      this.recorder.font = `11px ${MONO}`;
      return this.recorder;
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, this.w, this.h);
    ctx.font = `11px ${MONO}`;
    return ctx;
  }
  svg() {
    // what is drawn, without what is hovered
    const hovered = this.lens.hovered;
    this.recorder = new Recorder(this.name);
    this.lens.hovered = {};
    try {
      this.draw();
      this.drawOver();
      return this.recorder.parts.join("\n");
    } finally {
      this.recorder = null;
      this.lens.hovered = hovered;
    }
  }
  get visible() {
    return this.w > 0 && this.h > 0;
  }
  get m() {
    return this.lens.model;
  }
  get colours() {
    return this.lens.colours;
  }
  // block columns, shared by the barcode and the arcs
  get column() {
    return (this.w - LEFT - RIGHT) / this.m.blocks;
  }
  x(block) {
    return LEFT + block * this.column;
  }
  blockAt(px) {
    const b = Math.floor((px - LEFT) / this.column);
    return b >= 0 && b < this.m.blocks ? b : undefined;
  }
  every() {
    const need = this.m.blocks > 100 ? 22 : this.m.blocks > 10 ? 15 : 8;
    return [1, 2, 5, 10, 20, 50].find((s) => s * this.column >= need) || 100;
  } // labelled blocks
  text(
    ctx,
    string,
    x,
    y,
    { align = "center", colour = this.colours.muted, bold = false, baseline = "middle" } = {},
  ) {
    ctx.font = `${bold ? "600 " : ""}11px ${MONO}`;
    ctx.fillStyle = colour;
    ctx.textAlign = align;
    ctx.textBaseline = baseline;
    ctx.fillText(string, x, y);
  }
}
