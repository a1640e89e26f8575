// The lens of Explore: every panel reads the same data and the same cursor, so hovering one lights all.
// Base canvases hold what depends on the data; overlays hold cursor and hover and are redrawn in one frame.

const PALETTE = {
  light: { removed: "#b34e00", empty: "#eef1f6", muted: "#5b6472", line: "#dfe3ea", text: "#14181f", accent: "#1f6feb",
    positive: [118, 42, 131], negative: [27, 120, 55], zero: [247, 247, 249],
    ramp: ["#00224e", "#2f3f6b", "#575d6d", "#6f7073", "#8a8678", "#a59c74", "#b08d1f"] },
  dark: { removed: "#ffb454", empty: "#1b222c", muted: "#9aa5b4", line: "#2c3542", text: "#f0f3f7", accent: "#6cb0ff",
    positive: [201, 160, 220], negative: [127, 211, 154], zero: [26, 32, 41],
    ramp: ["#fee838", "#e1cc55", "#c3b369", "#a69d75", "#8f8b86", "#7c8fb5", "#6f9ae0"] },
};
const MONO = "ui-monospace, Menlo, Consolas, monospace";
const LEFT = 44, RIGHT = 26; // margins shared by the panels that stand in block columns

const decode = (text, Type) => new Type(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const element = (tag, attributes = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), attributes);
  node.append(...children.filter((c) => c !== null && c !== undefined));
  return node;
};
const superscript = (n) => String(n).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
const significant = (v, digits = 3) => {
  if (v === 0 || !isFinite(v)) return "0";
  const size = Math.floor(Math.log10(Math.abs(v)));
  return size < -4 ? v.toExponential(digits - 1) : v.toFixed(Math.min(6, Math.max(0, digits - 1 - size)));
};
const signed = (v, digits) => (v > 0 ? "+" : v < 0 ? "−" : "") + significant(Math.abs(v), digits);
const increase = ([mean, se]) => [(mean < 0 ? "−" : "+") + Math.abs(mean).toFixed(4), se === null ? "" : `± ${se.toFixed(4)} nats`];
const ranges = (blocks) => {
  const parts = [];
  for (let i = 0; i < blocks.length; ) {
    let j = i;
    while (j + 1 < blocks.length && blocks[j + 1] === blocks[j] + 1) j += 1;
    parts.push(j > i + 1 ? `${blocks[i]}–${blocks[j]}` : blocks.slice(i, j + 1).join(", "));
    i = j + 1;
  }
  return parts.join(", ");
};
const ticks = (top, wanted = 5) => {
  if (!(top > 0)) return [0];
  const raw = top / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw);
  return Array.from({ length: Math.floor(top / step + 1e-9) + 1 }, (_, i) => i * step);
};
const mix = (from, to, t) => `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * t)).join(",")})`;

class Model {
  // Decoded data of one solved landscape; nothing here changes afterwards.
  constructor(data) {
    Object.assign(this, data);
    this.list = decode(data.states, Uint16Array);
    for (const [name, Type] of [["energy", Float64Array], ["own", Float64Array], ["pearson", Float64Array], ["changed", Uint16Array],
      ["minimum", Uint8Array], ["matrix", Float64Array], ["frequency", Float64Array]]) this[name] = decode(data[name], Type);
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
    for (let k = 0; k < this.count; k++) this.index.set(this.state(k).join("-"), k);
    this.minima = Array.from({ length: this.count }, (_, k) => k).filter((k) => this.minimum[k]);
  }
  state(k) { return Array.from(this.list.subarray(k * this.removed, (k + 1) * this.removed)); }
  h(i, j) { return this.matrix[i * this.blocks + j]; }
  delta(k) { return (this.energy[k] - this.energy[0]) * this.scale; }
  show(v, digits) { return significant(v * this.scale, digits); }
  tone(v) { // position of a coupling on the diverging scale, -1..1
    const a = Math.abs(v), t = this.signedLog ? Math.log1p(a / this.linearBelow) / Math.log1p(this.maxCoupling / this.linearBelow) : a / this.maxCoupling;
    return Math.sign(v) * Math.min(1, t);
  }
  strongestPairs(k, wanted = 3) {
    const s = this.state(k), pairs = [];
    for (let a = 0; a < s.length; a++) for (let b = a + 1; b < s.length; b++) pairs.push([s[a], s[b], 2 * this.h(s[a], s[b])]);
    return pairs.sort((p, q) => Math.abs(q[2]) - Math.abs(p[2])).slice(0, wanted);
  }
}

class Panel {
  constructor(lens, className, title) {
    this.lens = lens;
    this.title = element("h2", { textContent: title });
    this.note = element("span");
    this.base = element("canvas");
    this.over = element("canvas", { className: "over" });
    this.base.setAttribute("aria-hidden", "true");
    this.over.setAttribute("aria-hidden", "true");
    this.plot = element("div", { className: "plot" }, this.base, this.over);
    this.node = element("section", { className: `panel ${className}` }, element("div", { className: "heading" }, this.title, this.note), this.plot);
    this.over.addEventListener("pointermove", (e) => this.lens.hover(this.find(e.offsetX, e.offsetY)));
    this.over.addEventListener("pointerleave", () => this.lens.hover({}));
    this.over.addEventListener("click", (e) => {
      const hit = this.find(e.offsetX, e.offsetY);
      if (hit.state !== undefined) this.lens.select(hit.state);
      else if (hit.strip) this.lens.cycle(hit.block);
      this.lens.frame.focus({ preventScroll: true });
    });
  }
  resize() {
    const { clientWidth: w, clientHeight: h } = this.plot, ratio = window.devicePixelRatio || 1;
    [this.w, this.h] = [w, h];
    for (const canvas of [this.base, this.over]) { canvas.width = Math.round(w * ratio); canvas.height = Math.round(h * ratio); }
    this.ratio = ratio;
  }
  context(canvas) {
    const ctx = canvas.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, this.w, this.h);
    ctx.font = `11px ${MONO}`;
    return ctx;
  }
  get m() { return this.lens.model; }
  get colours() { return this.lens.colours; }
  // block columns, shared by the barcode and the arcs
  get column() { return (this.w - LEFT - RIGHT) / this.m.blocks; }
  x(block) { return LEFT + block * this.column; }
  blockAt(px) { const b = Math.floor((px - LEFT) / this.column); return b >= 0 && b < this.m.blocks ? b : undefined; }
  every() { const need = this.m.blocks > 100 ? 22 : this.m.blocks > 10 ? 15 : 8; return [1, 2, 5, 10, 20, 50].find((s) => s * this.column >= need) || 100; } // labelled blocks
  text(ctx, string, x, y, { align = "center", colour = this.colours.muted, bold = false, baseline = "middle" } = {}) {
    ctx.font = `${bold ? "600 " : ""}11px ${MONO}`;
    ctx.fillStyle = colour; ctx.textAlign = align; ctx.textBaseline = baseline;
    ctx.fillText(string, x, y);
  }
}

class Levels extends Panel {
  prepare() {
    const { m } = this;
    this.title.textContent = "Levels";
    this.note.textContent = `each line is a way to remove ${m.removed} blocks; lower is predicted better`;
    const columns = m.maxChanged + 1, width = (this.w - LEFT - 8) / columns, height = this.h - 38;
    this.px = new Float32Array(m.count); this.py = new Float32Array(m.count);
    const seen = new Array(columns).fill(0);
    this.tick = Math.max(3, Math.min(12, width * 0.16));
    for (let k = 0; k < m.count; k++) {
      const c = m.changed[k], spread = c === 0 ? 0.5 : (seen[c]++ * 0.6180339887) % 1; // golden ratio: neighbours in energy stand apart
      this.px[k] = LEFT + c * width + this.tick / 2 + 3 + spread * (width - this.tick - 6);
      this.py[k] = 8 + height * (1 - (m.top > 0 ? m.delta(k) / m.top : 0));
    }
    this.columnWidth = width; this.height = height;
  }
  draw() {
    this.prepare();
    const { m, colours } = this, ctx = this.context(this.base), columns = m.maxChanged + 1;
    for (const t of ticks(m.top)) {
      const y = 8 + this.height * (1 - (m.top > 0 ? t / m.top : 0));
      ctx.fillStyle = colours.line; ctx.fillRect(LEFT, Math.round(y), this.w - LEFT, 1);
      this.text(ctx, t === 0 ? "0" : significant(t, 2), LEFT - 5, y, { align: "right" });
    }
    for (let c = 0; c < columns; c++) this.text(ctx, c, LEFT + (c + 0.5) * this.columnWidth, this.height + 21);
    this.text(ctx, "blocks changed against the ground state", LEFT + (this.w - LEFT) / 2, this.h - 5);
    this.text(ctx, `ΔE${m.unitText}`, LEFT + 4, 6, { align: "left" });
    for (let k = m.count - 1; k >= 0; k--) this.mark(ctx, k, this.lens.distanceColour(m.changed[k]));
  }
  mark(ctx, k, colour, grow = 0) {
    ctx.fillStyle = colour;
    const w = this.tick + 2 * grow;
    ctx.fillRect(this.px[k] - w / 2, this.py[k] - 0.75 - grow / 2, w, 1.5 + grow);
    if (this.m.minimum[k]) { ctx.beginPath(); ctx.arc(this.px[k], this.py[k], 3 + grow, 0, 7); ctx.fill(); }
  }
  drawOver() {
    const ctx = this.context(this.over), { colours, lens, m } = this;
    for (const k of lens.measuredRanks) { ctx.strokeStyle = colours.text; ctx.lineWidth = 1; ctx.beginPath(); ctx.arc(this.px[k], this.py[k], 6, 0, 7); ctx.stroke(); } // ring: measured
    for (const k of lens.trayRanks()) { ctx.strokeStyle = colours.accent; ctx.lineWidth = 1.5; ctx.strokeRect(this.px[k] - this.tick / 2 - 3, this.py[k] - 5, this.tick + 6, 10); }
    const label = (k, colour) => {
      const left = this.px[k] > this.w - 60;
      this.text(ctx, `#${k}`, this.px[k] + (left ? -1 : 1) * (this.tick / 2 + 5), this.py[k] - 8, { align: left ? "right" : "left", colour, bold: true });
    };
    if (lens.hovered.state !== undefined && lens.hovered.state !== lens.cursor) { this.mark(ctx, lens.hovered.state, colours.accent, 2); label(lens.hovered.state, colours.accent); }
    if (lens.hovered.block !== undefined) for (let k = 0; k < m.count; k++) if (m.state(k).includes(lens.hovered.block)) this.mark(ctx, k, colours.removed);
    this.mark(ctx, lens.cursor, colours.text, 3); label(lens.cursor, colours.text);
  }
  find(x, y) {
    let best = 18 * 18, state;
    for (let k = 0; k < this.m.count; k++) {
      const dx = Math.max(0, Math.abs(this.px[k] - x) - this.tick / 2), dy = this.py[k] - y, d = dx * dx + dy * dy;
      if (d < best) { best = d; state = k; }
    }
    return { state };
  }
}

class Barcode extends Panel {
  constructor(...args) {
    super(...args);
    this.first = 0;
    this.over.addEventListener("wheel", (e) => {
      const last = Math.max(0, this.m.count - this.rows), next = Math.min(last, Math.max(0, this.first + Math.sign(e.deltaY) * Math.max(1, Math.round(Math.abs(e.deltaY) / 25))));
      if (next !== this.first) { e.preventDefault(); this.first = next; this.draw(); this.lens.repaintOver(); }
    }, { passive: false });
  }
  layout() { // frequency bars, block strip, rows
    this.barTop = 4; this.barHeight = 36; this.strip = 46; this.stripHeight = 19; this.top = 70;
    this.rowHeight = Math.max(3.6, Math.min(12, (this.h - this.top) / Math.min(this.m.count, 60)));
    this.rows = Math.min(this.m.count, Math.floor((this.h - this.top) / this.rowHeight));
  }
  y(k) { return this.top + (k - this.first) * this.rowHeight; }
  follow(k) {
    if (k < this.first) this.first = k; else if (k >= this.first + this.rows) this.first = k - this.rows + 1; else return false;
    return true;
  }
  draw() {
    this.layout();
    this.first = Math.min(this.first, Math.max(0, this.m.count - this.rows));
    const { m, colours } = this, ctx = this.context(this.base), c = this.column, inset = c > 8 ? 1 : 0.5;
    this.note.textContent = `rows ${this.first}–${this.first + this.rows - 1} of ${m.count}, lowest first; bars: share of them that remove a block`;
    ctx.fillStyle = colours.line; ctx.fillRect(LEFT, this.barTop + this.barHeight, this.w - LEFT - RIGHT, 1);
    const most = Math.max(...m.frequency);
    this.text(ctx, `${Math.round(100 * most)}%`, LEFT - 6, this.barTop + 6, { align: "right" });
    ctx.fillStyle = colours.removed;
    for (let b = 0; b < m.blocks; b++) { const h = (m.frequency[b] / most) * this.barHeight; ctx.fillRect(this.x(b) + inset, this.barTop + this.barHeight - h, c - 2 * inset, h); }
    ctx.fillStyle = colours.empty;
    for (let b = 0; b < m.blocks; b++) ctx.fillRect(this.x(b) + inset, this.top, c - 2 * inset, this.rows * this.rowHeight);
    ctx.fillStyle = colours.removed;
    const gap = this.rowHeight > 3.9 ? 0.8 : 0.3;
    for (let k = this.first; k < this.first + this.rows; k++)
      for (let i = 0; i < m.removed; i++) ctx.fillRect(this.x(m.list[k * m.removed + i]) + inset, this.y(k), c - 2 * inset, this.rowHeight - gap);
    for (let k = this.first; k < this.first + this.rows; k++) {
      if (k % 10 === 0) this.text(ctx, k, LEFT - 6, this.y(k) + this.rowHeight / 2, { align: "right" });
      if (m.minimum[k]) {
        const y = this.y(k) + this.rowHeight / 2, x = this.w - RIGHT + 5;
        ctx.fillStyle = colours.muted; ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(x + 6, y - 3); ctx.lineTo(x + 6, y + 3); ctx.fill();
      }
    }
    this.text(ctx, "min", this.w, this.strip + 10, { align: "right" });
  }
  drawOver() {
    const ctx = this.context(this.over), { m, colours, lens } = this, c = this.column, state = new Set(m.state(lens.cursor)), every = this.every();
    for (let b = 0; b < m.blocks; b++) {
      ctx.fillStyle = state.has(b) ? colours.removed : colours.empty; ctx.fillRect(this.x(b) + (c > 8 ? 1 : 0.5), this.strip, c - (c > 8 ? 2 : 1), this.stripHeight);
    }
    for (let b = 0; b < m.blocks; b += every) {
      const on = state.has(b) && c > 8; // on narrower columns a label is wider than its block
      this.text(ctx, b, this.x(b) + c / 2, this.strip + this.stripHeight / 2 + 0.5, { colour: on ? (lens.dark ? "#1a1206" : "#ffffff") : colours.text, bold: on });
    }
    for (const [blocks, y, colour] of [[lens.keep, this.strip + this.stripHeight, colours.accent], [lens.remove, this.strip - 3.5, colours.removed]]) { // under: stays, over: goes
      ctx.fillStyle = colour;
      for (const b of blocks) ctx.fillRect(this.x(b) + 1, y + 0.5, c - 2, 3);
    }
    for (const b of Object.keys(m.warnings).map(Number)) { // a corner: its gradient hides what it costs
      const x = this.x(b) + c - (c > 8 ? 1 : 0.5), size = Math.min(6, c * 0.45);
      ctx.fillStyle = state.has(b) ? colours.empty : colours.text;
      ctx.beginPath(); ctx.moveTo(x, this.strip); ctx.lineTo(x - size, this.strip); ctx.lineTo(x, this.strip + size); ctx.fill();
    }
    const warned = lens.hovered.strip && m.warnings[lens.hovered.block];
    this.over.title = warned ? `Block ${lens.hovered.block}: ${warned}` : "";
    const box = (k, colour, width) => {
      if (k < this.first || k >= this.first + this.rows) return;
      ctx.strokeStyle = colour; ctx.lineWidth = width;
      ctx.beginPath(); ctx.roundRect(LEFT - 2, this.y(k) - 1.5, this.w - LEFT - RIGHT + 4, this.rowHeight + 2, 2); ctx.stroke();
    };
    for (const b of lens.hoveredBlocks()) { ctx.strokeStyle = colours.accent; ctx.lineWidth = 1.5; ctx.strokeRect(this.x(b), this.barTop, c, this.top + this.rows * this.rowHeight - this.barTop); }
    for (const k of lens.measuredRanks) { // ring: measured
      if (k < this.first || k >= this.first + this.rows) continue;
      ctx.strokeStyle = colours.text; ctx.lineWidth = 1;
      ctx.beginPath(); ctx.arc(this.w - 5, this.y(k) + this.rowHeight / 2, 3, 0, 7); ctx.stroke();
    }
    for (const k of lens.trayRanks()) box(k, colours.accent, 1);
    if (lens.hovered.state !== undefined) box(lens.hovered.state, colours.accent, 1.5);
    box(lens.cursor, colours.text, 2);
  }
  find(x, y) {
    const block = this.blockAt(x), k = this.first + Math.floor((y - this.top) / this.rowHeight);
    const state = y >= this.top && k < this.first + this.rows ? k : undefined;
    return { strip: block !== undefined && y >= this.strip && y < this.strip + this.stripHeight, state, block: state === undefined ? block : undefined, cell: state === undefined ? undefined : block };
  }
}

class Matrix extends Panel {
  layout() {
    this.size = Math.max(40, Math.min(this.h - 24, this.w - LEFT - 130));
    this.cell = this.size / this.m.blocks;
  }
  draw() {
    this.layout();
    const { m, colours } = this, ctx = this.context(this.base), c = this.cell, seam = c > 6 ? 0.6 : 0;
    this.note.textContent = "E = Σ Hᵢᵢ + 2 Σᵢ<ⱼ Hᵢⱼ over removed";
    this.note.title = "x = 1: removed. Diagonal Hᵢᵢ: own cost (not coloured). Off the diagonal: purple raises the energy of removing both, green lowers it.";
    for (let i = 0; i < m.blocks; i++) for (let j = 0; j < m.blocks; j++) {
      const v = m.h(i, j), t = m.tone(v);
      ctx.fillStyle = i === j ? colours.empty : mix(colours.zero, t > 0 ? colours.positive : colours.negative, Math.abs(t));
      ctx.fillRect(LEFT + j * c, 6 + i * c, c - seam, c - seam);
    }
    const step = [1, 2, 3, 4, 5, 6, 10, 20].find((s) => s * c >= 40) || 20;
    for (let b = 0; b < m.blocks; b += step) {
      this.text(ctx, b, LEFT - 5, 6 + (b + 0.5) * c, { align: "right" });
      this.text(ctx, b, LEFT + (b + 0.5) * c, this.size + 16);
    }
    const x = LEFT + this.size + 14, height = Math.min(96, this.size - 20);
    for (let y = 0; y < height; y++) {
      const t = 1 - (2 * y) / height;
      ctx.fillStyle = mix(colours.zero, t > 0 ? colours.positive : colours.negative, Math.abs(t)); ctx.fillRect(x, 8 + y, 9, 1.5);
    }
    const value = (t) => (m.signedLog ? m.linearBelow * Math.expm1(t * Math.log1p(m.maxCoupling / m.linearBelow)) : t * m.maxCoupling);
    for (const t of [1, 0.5, 0, -0.5, -1]) this.text(ctx, t === 0 ? "0" : (t > 0 ? "+" : "−") + m.show(value(Math.abs(t)), 2), x + 14, 8 + ((1 - t) / 2) * height, { align: "left" });
    this.text(ctx, (m.signedLog ? "signed log" : "linear") + m.unitText, x, height + 22, { align: "left" });
  }
  drawOver() {
    const ctx = this.context(this.over), { m, colours, lens } = this, c = this.cell, state = m.state(lens.cursor);
    ctx.strokeStyle = colours.text; ctx.lineWidth = 1;
    if (c > 4) for (const i of state) for (const j of state) if (i !== j) ctx.strokeRect(LEFT + j * c - 0.3, 6 + i * c - 0.3, c, c);
    ctx.fillStyle = colours.removed;
    for (const i of state) { ctx.fillRect(LEFT + i * c, this.size + 6, c - 0.5, 3); ctx.fillRect(LEFT - 3.5, 6 + i * c, 3, c - 0.5); }
    ctx.strokeStyle = colours.accent; ctx.lineWidth = 1.5;
    for (const b of lens.hoveredBlocks()) { ctx.strokeRect(LEFT + b * c, 6, c, this.size); ctx.strokeRect(LEFT, 6 + b * c, this.size, c); }
  }
  find(x, y) {
    const j = Math.floor((x - LEFT) / this.cell), i = Math.floor((y - 6) / this.cell), n = this.m.blocks;
    return i >= 0 && j >= 0 && i < n && j < n ? { pair: [i, j] } : {};
  }
}

class Arcs extends Panel {
  draw() {
    const { m } = this, ctx = this.context(this.base);
    this.note.textContent = "3 strongest per block · above H > 0, below H < 0";
    m.edges.forEach((edge, k) => this.arc(ctx, edge, 0.4 + 2.2 * (1 - k / m.edges.length), 0.65));
    this.nodes(ctx, new Set());
    const every = this.every();
    for (let b = 0; b < m.blocks; b += every) this.text(ctx, b, this.x(b) + this.column / 2, this.h - 6);
  }
  arc(ctx, [i, j, v], width, alpha) {
    const y = this.h / 2, from = this.x(i) + this.column / 2, to = this.x(j) + this.column / 2;
    const height = (this.h / 2 - 18) * Math.sqrt((j - i) / Math.max(1, this.m.blocks - 1));
    const [r, g, b] = v > 0 ? this.colours.positive : this.colours.negative;
    ctx.strokeStyle = `rgba(${r},${g},${b},${alpha})`; ctx.lineWidth = width;
    ctx.beginPath(); ctx.ellipse((from + to) / 2, y, (to - from) / 2, height, 0, v > 0 ? Math.PI : 0, v > 0 ? 2 * Math.PI : Math.PI); ctx.stroke();
  }
  nodes(ctx, state) {
    for (let b = 0; b < this.m.blocks; b++) {
      ctx.fillStyle = state.has(b) ? this.colours.removed : this.colours.muted;
      ctx.beginPath(); ctx.arc(this.x(b) + this.column / 2, this.h / 2, Math.min(state.has(b) ? 5 : 2.5, this.column * 0.45), 0, 7); ctx.fill();
    }
  }
  drawOver() {
    const ctx = this.context(this.over), { lens, m } = this, blocks = lens.hoveredBlocks();
    if (blocks.length) {
      const touching = m.edges.filter(([i, j]) => (blocks.length === 2 ? blocks.includes(i) && blocks.includes(j) : blocks.includes(i) || blocks.includes(j)));
      for (const edge of touching) this.arc(ctx, edge, 3, 1);
    }
    this.nodes(ctx, new Set(m.state(lens.cursor)));
    for (const b of blocks) this.text(ctx, b, this.x(b) + this.column / 2, this.h / 2 + 14, { colour: this.colours.accent, bold: true });
  }
  find(x) { return { block: this.blockAt(x) }; }
}

class Lens {
  constructor(root) {
    this.root = root;
    this.hovered = {}; this.cursor = 0; this.seq = 0; this.tray = []; this.keep = []; this.remove = []; this.details = []; this.measured = new Map(); this.measuredRanks = [];
    this.levels = new Levels(this, "levels", "Levels");
    this.barcode = new Barcode(this, "states", "States × blocks");
    this.matrix = new Matrix(this, "matrix", "Couplings Hᵢⱼ");
    this.arcs = new Arcs(this, "arcs", "Interaction graph");
    this.panels = [this.levels, this.barcode, this.matrix, this.arcs];
    this.strongest = element("div", { className: "strongest" });
    this.matrix.plot.append(this.strongest);
    this.card = element("section", { className: "card" });
    this.trayNode = element("section", { className: "tray" });
    this.status = element("div", { className: "status" });
    this.status.setAttribute("role", "status"); this.status.setAttribute("aria-live", "polite");
    this.help = this.buildHelp();
    this.frame = element("div", { className: "frame", tabIndex: 0 }, this.levels.node, this.barcode.node,
      element("div", { className: "side" }, this.card, this.trayNode), this.matrix.node, this.arcs.node, this.status);
    this.frame.setAttribute("role", "group");
    this.frame.setAttribute("aria-label", "Energy landscape. Up and down walk the states, left and right the minima, A adds to the tray, P prunes, question mark shows help.");
    this.frame.addEventListener("keydown", (e) => this.key(e));
    this.probe = element("i", { className: "probe" }); // its colour changes with the theme
    this.probe.addEventListener("transitionend", () => this.paint());
    root.replaceChildren(this.frame, this.help, this.probe);
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(root);
  }

  buildHelp() {
    const rows = [["↑ ↓ or K J", "previous, next state"], ["← →", "previous, next minimum among the listed states"], ["Home", "ground state"], ["A or space", "add to the tray, or take out"], ["P", "prune the model to this state"], ["click a block of the strip", "it stays in every state (mark below), goes in every state (mark above), is free again"], ["dark corner in the strip", "removing this block costs far more than its gradient says; hover it"], ["?", "this help"], ["Esc", "close"]];
    const help = element("div", { className: "help", hidden: true }, element("h2", { textContent: "Keys and words" }), element("dl", {}, ...rows.flatMap(([k, v]) => [element("dt", { textContent: k }), element("dd", { textContent: v })])),
      element("p", { textContent: "A ring marks a state whose loss was measured. The rank interval says where a state would stand among the lowest had other samples been drawn (bootstrap). A state is one way to remove M blocks; its energy predicts the damage, lower is better. A minimum is a state that no single swap (one block back, another out) lowers. The ground state is the lowest of all." }),
      element("button", { textContent: "Close", onclick: () => { this.help.hidden = true; this.frame.focus(); } }));
    help.setAttribute("role", "dialog"); help.setAttribute("aria-label", "Keys and words");
    help.addEventListener("keydown", (e) => { if (e.key === "Escape") { help.hidden = true; this.frame.focus(); } });
    return help;
  }

  // -- data in -------------------------------------------------------------------------------
  update(data, trigger) {
    this.trigger = trigger;
    if (data.landscape.version !== this.version) {
      this.version = data.landscape.version;
      this.model = new Model(data.landscape);
      this.barcode.first = 0;
      this.hovered = {};
      this.cursor = this.model.index.get((data.cursor || []).join("-")) ?? 0;
      this.layout(true);
    }
    this.measured = new Map(Object.entries(data.measured)); // blocks -> [loss increase, standard error, items]
    this.measuredRanks = [...this.measured.keys()].map((name) => this.model.index.get(name)).filter((k) => k !== undefined);
    if (data.seq > this.seq) this.cursor = this.model.index.get((data.cursor || []).join("-")) ?? this.cursor; // the page moved it: Back, or a link
    if (data.seq >= this.seq) { // an older answer must not undo what was picked since
      this.seq = data.seq;
      this.details = data.tray;
      this.tray = data.tray.map((t) => t.removed.join("-"));
      this.keep = data.landscape.keep; this.remove = data.landscape.remove;
    }
    this.paintCard(); this.paintTray(); this.repaintOver();
  }

  // -- actions -------------------------------------------------------------------------------
  select(k, later = false) {
    if (k < 0 || k >= this.model.count) return;
    this.cursor = k;
    if (this.barcode.follow(k)) this.barcode.draw();
    this.paintCard(); this.repaintOver();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), later ? 500 : 150);
  }
  send(locked = false) {
    clearTimeout(this.timer);
    this.seq += 1;
    this.trigger("commit", { seq: this.seq, cursor: this.model.state(this.cursor), tray: this.tray.map((s) => s.split("-").map(Number)), keep: this.keep, remove: this.remove, locked, source: this.model.source });
  }
  toggle(name) {
    this.tray = this.tray.includes(name) ? this.tray.filter((t) => t !== name) : [...this.tray, name];
    this.paintCard(); this.repaintOver(); this.send();
  }
  prune() { if (this.model.kinds.length) this.trigger("prune", { removed: this.model.state(this.cursor) }); } // a bare matrix has no model
  cycle(block) { // free, stays, goes, free
    const stays = this.keep.includes(block), goes = this.remove.includes(block);
    this.keep = this.keep.filter((b) => b !== block); this.remove = this.remove.filter((b) => b !== block);
    if (stays) this.remove.push(block); else if (!goes) this.keep.push(block);
    this.repaintOver(); this.send(true);
  }
  nextMinimum(direction) {
    const found = direction > 0 ? this.model.minima.find((k) => k > this.cursor) : this.model.minima.findLast((k) => k < this.cursor);
    if (found !== undefined) this.select(found, true);
  }
  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, J: 1, K: -1 }[e.key];
    if (e.target !== this.frame && e.key === " ") return; // space presses a focused button
    if (step) this.select(this.cursor + step, true);
    else if (e.key === "ArrowRight" || e.key === "ArrowLeft") this.nextMinimum(e.key === "ArrowRight" ? 1 : -1);
    else if (e.key === "Home") this.select(0, true);
    else if (e.key === "a" || e.key === "A" || e.key === " ") this.toggle(this.model.state(this.cursor).join("-"));
    else if (e.key === "p" || e.key === "P") this.prune();
    else if (e.key === "?") { this.help.hidden = !this.help.hidden; if (!this.help.hidden) this.help.querySelector("button").focus(); }
    else if (e.key === "Escape") this.help.hidden = true;
    else return;
    e.preventDefault(); e.stopPropagation();
  }
  hover(hit) {
    const same = hit.state === this.hovered.state && hit.block === this.hovered.block && hit.cell === this.hovered.cell && hit.strip === this.hovered.strip && String(hit.pair) === String(this.hovered.pair);
    if (same) return;
    this.hovered = hit;
    this.repaintOver();
  }

  // -- what panels ask -----------------------------------------------------------------------
  hoveredBlocks() { const { block, pair, cell } = this.hovered; return pair ? [...new Set(pair)] : block !== undefined ? [block] : cell !== undefined ? [cell] : []; }
  trayRanks() { return this.tray.map((name) => this.model.index.get(name)).filter((k) => k !== undefined); }
  distanceColour(changed) { const { ramp } = this.colours; return ramp[Math.min(ramp.length - 1, changed)]; }

  // -- painting ------------------------------------------------------------------------------
  layout(force = false) {
    if (!this.model || !this.root.clientWidth) return;
    const width = this.root.clientWidth, size = `${width}x${window.devicePixelRatio}`;
    if (!force && size === this.size) return;
    this.size = size;
    this.root.classList.toggle("narrow", width < 700);
    this.root.classList.toggle("medium", width >= 700 && width < 1000);
    for (const panel of this.panels) panel.resize();
    this.paint();
  }
  paint() {
    if (!this.model) return;
    const [r, g, b] = (getComputedStyle(this.probe).color.match(/\d+/g) || [0, 0, 0]).map(Number);
    this.dark = r + g + b > 382; // light text: dark theme
    this.colours = PALETTE[this.dark ? "dark" : "light"];
    this.root.classList.toggle("dark", this.dark);
    this.barcode.layout(); this.barcode.follow(this.cursor);
    for (const panel of this.panels) panel.draw();
    this.paintOver(); this.paintCard(); this.paintTray();
  }
  repaintOver() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => { this.pending = 0; this.paintOver(); });
  }
  paintOver() {
    if (!this.model || !this.colours) return;
    for (const panel of this.panels) panel.drawOver();
    this.status.textContent = this.sentence();
  }
  sentence() {
    const { model: m, hovered } = this;
    if (hovered.pair) {
      const [i, j] = hovered.pair, v = m.h(i, j);
      if (i === j) return `Block ${i}: own cost H = ${m.show(v)}${m.unitText}.`;
      return `Blocks ${i} and ${j}: H = ${m.show(v)}${m.unitText}; removing both ${v > 0 ? "costs" : "saves"} ${m.show(Math.abs(2 * v))}${m.unitText} ${v > 0 ? "more" : ""} than each alone`.replace(/ +than/, " than") + ".";
    }
    if (hovered.block !== undefined) return `Block ${hovered.block}${m.kinds.length ? ` (${m.kinds[hovered.block]})` : ""}: removed in ${Math.round(100 * m.frequency[hovered.block])} % of the listed states, own cost ${m.show(m.h(hovered.block, hovered.block))}${m.unitText}${this.keep.includes(hovered.block) ? "; it always stays" : this.remove.includes(hovered.block) ? "; it always goes" : ""}${m.warnings[hovered.block] ? `; ${m.warnings[hovered.block]}` : ""}${hovered.strip ? ". Click: stays, goes, free" : ""}.`;
    const k = hovered.state ?? this.cursor, kind = k === 0 ? "the ground state" : m.minimum[k] ? "a minimum: no single swap lowers it" : "not a minimum";
    return `State ${k} removes ${ranges(m.state(k))}; energy ${k === 0 ? m.show(m.energy[0]) : significant(m.delta(k)) + m.unitText + " above the ground state"}${k === 0 ? m.unitText : ""}; ${kind}.`;
  }
  paintCard() {
    const { model: m, cursor: k } = this, state = m.state(k), own = m.own[k], pairs = m.energy[k] - own, unit = m.unitText;
    const name = state.join("-"), inTray = this.tray.includes(name);
    const rows = [["E", m.show(m.energy[k]), unit], ["ΔE", significant(m.delta(k)), unit], ["own cost Σ Hᵢᵢ", m.show(own), unit], ["pairs 2 Σ Hᵢⱼ", (pairs < 0 ? "−" : "+") + m.show(Math.abs(pairs)), "i < j"],
      ["Pearson to #0", isNaN(m.pearson[k]) ? "–" : (m.pearson[k] < 0 ? "−" : "+") + Math.abs(m.pearson[k]).toFixed(2), `${m.changed[k]} of ${m.removed} changed`]];
    if (m.ranks[k]) rows.push(["rank, 95 %", m.ranks[k].join("–"), `of ${m.ranks.length}, other samples`]);
    if (m.parameters.length) {
      const gone = state.reduce((sum, b) => sum + m.parameters[b], 0);
      rows.push(["parameters", `−${((100 * gone) / m.total_parameters).toFixed(0)} %`, `−${gone >= 1e9 ? (gone / 1e9).toFixed(2) + " B" : gone >= 1e6 ? (gone / 1e6).toFixed(2) + " M" : (gone / 1e3).toFixed(0) + " k"}`]);
    }
    if (this.measured.has(name)) rows.push(["loss change", ...increase(this.measured.get(name))]);
    const chips = state.length > 16 ? element("p", { className: "hash", textContent: ranges(state) }) : element("div", { className: "chips" }, ...state.map((b) => element("span", { className: "chip", textContent: b })));
    const focused = this.card.contains(this.root.getRootNode().activeElement);
    const add = element("button", { className: "primary", textContent: inTray ? "Take out" : "Add to tray", onclick: () => this.toggle(name) });
    const go = (text, label, act) => { const b = element("button", { textContent: text, onclick: act }); b.setAttribute("aria-label", label); return b; };
    this.card.replaceChildren(
      element("div", { className: "row" }, element("h2", { textContent: `State #${k}` }), k === 0 ? element("span", { className: "badge", textContent: "ground state" }) : m.minimum[k] ? element("span", { className: "badge", textContent: "a minimum" }) : null, element("span", { className: "hash", textContent: m.hash[k] })),
      chips,
      element("dl", {}, ...rows.flatMap(([t, v, n]) => [element("dt", { textContent: t }), element("dd", { textContent: v }), element("dd", { textContent: n })])),
      element("div", { className: "actions" }, add, m.kinds.length ? go("Prune", "prune the model to this state", () => this.prune()) : null, go("↑", "previous state", () => this.select(this.cursor - 1)), go("↓", "next state", () => this.select(this.cursor + 1))));
    if (focused) add.focus({ preventScroll: true });
    const keys = element("div", { className: "keys" });
    keys.innerHTML = "<kbd>↑</kbd><kbd>↓</kbd> state <kbd>←</kbd><kbd>→</kbd> min <kbd>A</kbd> tray <kbd>P</kbd> prune ";
    keys.append(go("?", "help", () => { this.help.hidden = false; this.help.querySelector("button").focus(); }));
    this.card.append(keys);
    this.strongest.replaceChildren(...(this.root.classList.contains("narrow") ? [] : [element("span", { textContent: "strongest in state" })]), ...m.strongestPairs(k).map(([i, j, v]) => {
      const line = element("div", { textContent: `${i}–${j} ${signed(v * m.scale, 2)}` });
      if (this.colours) line.style.color = `rgb(${(v > 0 ? this.colours.positive : this.colours.negative).join(",")})`;
      return line;
    }));
  }
  paintTray() {
    const { model: m } = this, spread = this.details.map((d) => d.diversity).filter((d) => d !== null);
    const head = element("div", { className: "row" }, element("h2", { textContent: "Tray" }), spread.length ? element("small", { textContent: `smallest diversity ${Math.min(...spread).toFixed(2)}`, title: "Pearson diversity: 1 − the largest coefficient to another picked state" }) : null);
    const picks = this.details.map((d) => {
      const name = d.removed.join("-"), on = new Set(d.removed);
      const energy = d.delta === null ? `M = ${d.removed.length}` : `ΔE ${significant(d.delta * m.scale)}`;
      const mini = element("div", { className: "mini" }, ...Array.from({ length: m.blocks }, (_, b) => element("i", { className: on.has(b) ? "on" : "" })));
      const pick = element("button", { className: `pick ${m.index.get(name) === this.cursor ? "current" : ""}`, onclick: () => { if (d.rank !== null) this.select(d.rank); } },
        element("div", { className: "row" }, element("b", { textContent: d.rank === null ? d.hash : `#${d.rank}` }), element("span", { textContent: energy })), mini,
        element("small", { textContent: [this.measured.has(name) ? `loss ${increase(this.measured.get(name)).join(" ")}` : null, d.pearson === null ? null : `Pearson ${d.pearson.toFixed(2)}`, d.diversity === null ? null : `diversity ${d.diversity.toFixed(2)}`].filter(Boolean).join(" · ") }));
      pick.title = `removes ${ranges(d.removed)}`;
      pick.setAttribute("aria-label", `${d.rank === null ? "State " + d.hash : "State " + d.rank}, removes ${ranges(d.removed)}`);
      const drop = element("button", { className: "drop", textContent: "×", onclick: () => this.toggle(name) });
      drop.setAttribute("aria-label", `take state ${d.rank === null ? d.hash : d.rank} out of the tray`);
      return element("div", { className: "picked" }, pick, drop);
    });
    this.trayNode.replaceChildren(head, ...(picks.length ? picks : [element("p", { className: "empty", textContent: "Pick states with A: they stay here side by side, with their Pearson diversity to each other." })]));
  }
  close() { this.observer.disconnect(); clearTimeout(this.timer); cancelAnimationFrame(this.pending); }
}

const lenses = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lens");
  let lens = lenses.get(root);
  if (!lens) lenses.set(root, (lens = new Lens(root)));
  lens.update(data, setTriggerValue);
  return () => { if (!root.isConnected) { lens.close(); lenses.delete(root); } };
}
