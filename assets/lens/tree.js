// The barrier tree, a view of the Landscape panel: leaves are minima at their energies, two branches join at the
// barrier between them.

import { element } from "./dom.js";
import { LEFT, mix, ticks } from "./panel.js";
import { plus, significant } from "./wording.js";

const COLOURS = { changed: "changed", pearson: "Pearson to tray", loss: "measured loss" };
const SIDE = 16; // room at the ends of the row of leaves
const WIDEST = 72; // between two leaves
const MOST_LABELS = 200;

const hex = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
const apart = ([ax, ay, aw, ah], [bx, by, bw, bh]) =>
  ax + aw < bx || bx + bw < ax || ay + ah < by || by + bh < ay;

export class Tree {
  constructor(panel) {
    this.panel = panel;
    this.leaves = undefined; // how many of them; undefined: as many as a tree has where nobody says
    this.colour = "changed";
    this.slider = element("input", { type: "range", min: 0, step: 1 });
    this.slider.setAttribute("aria-label", "How many minima the tree shows, the most persistent first");
    this.slider.addEventListener("input", () => {
      this.leaves = this.choices()[this.slider.value];
      this.changed();
    });
    this.select = element("select");
    this.select.setAttribute("aria-label", "Colour of the tree");
    this.select.addEventListener("change", () => {
      this.colour = this.select.value;
      this.changed();
    });
    for (const control of [this.slider, this.select])
      control.addEventListener("keydown", (e) => e.stopPropagation()); // arrows move it
    this.said = element("span", { className: "said" });
    this.bar = element(
      "div",
      { className: "bar" },
      element("label", {}, "leaves ", this.slider),
      element("label", {}, "colour ", this.select),
      this.said,
    );
  }
  get lens() {
    return this.panel.lens;
  }
  get shape() {
    return this.panel.m.shape;
  }
  changed() {
    this.panel.redraw();
    this.lens.looked();
  }
  choices() {
    // numbers of leaves; the last is all
    const { orders } = this.shape;
    return orders.map((order, k) => (k === orders.length - 1 ? "all" : order.length));
  }

  // how it is looked at, in a link: "tree", "tree.50", "tree.all.pearson"
  get look() {
    const parts = ["tree", this.leaves ?? [], this.colour === "changed" ? [] : this.colour];
    return parts.flat().join(".");
  }
  takeLook(text) {
    const parts = text.split(".").slice(1);
    const leaves = parts.find((part) => part === "all" || Number(part));
    this.leaves = leaves === undefined || leaves === "all" ? leaves : Number(leaves);
    this.colour = parts.find((part) => part in COLOURS) ?? "changed";
  }

  // -- what stands where -------------------------------------------------------------------------
  prepare() {
    const { shape, panel } = this;
    this.order = shape.order(this.leaves === "all" ? shape.count : this.leaves);
    this.kept = new Set(this.order);
    const room = panel.w - LEFT - 2 * SIDE;
    this.spacing = Math.min(WIDEST, room / Math.max(1, this.order.length - 1));
    this.radius = Math.max(1.5, Math.min(4.5, 0.4 * this.spacing));
    this.x = new Map();
    const first = LEFT + SIDE + (room - (this.order.length - 1) * this.spacing) / 2;
    this.order.forEach((i, n) => this.x.set(i, first + n * this.spacing));
  }
  end(i) {
    // y of the upper end of a branch: above the picture where it joins nothing that is listed
    const barrier = this.shape.barrier(i);
    if (barrier < Infinity) return this.panel.y(barrier);
    return this.shape.whole ? this.panel.y(this.panel.m.top) : this.panel.y(this.panel.m.top) - 7;
  }
  y(i) {
    return this.panel.y(this.shape.delta(i));
  }
  xOf(k) {
    // of any listed state: on the branch that holds it
    return this.x.get(this.shape.shown(this.shape.holder(k), this.kept));
  }

  // -- colour ------------------------------------------------------------------------------------
  values() {
    // [of each minimum that is shown a number or none, the least, the largest]
    const { lens } = this;
    const { m } = this.panel;
    const tray = lens.tray.map((name) => name.split("-").map(Number));
    const value = {
      changed: (k) => m.changed[k],
      loss: (k) => lens.measured.get(m.state(k).join("-"))?.[0],
      pearson: (k) => (tray.length ? Math.max(...tray.map((t) => m.correlation(m.state(k), t))) : undefined),
    }[this.colour];
    this.value = new Map([...this.order].map((i) => [i, value(m.minima[i])]));
    const known = [...this.value.values()].filter((v) => Number.isFinite(v));
    this.least = Math.min(...known);
    this.largest = Math.max(...known);
    this.made = this.source();
  }
  source() {
    // what the colours are made of; where it is another, they are made anew
    return { loss: this.lens.measured, pearson: this.lens.tray }[this.colour];
  }
  shade(i) {
    const value = this.value.get(i);
    const { colours } = this.panel;
    if (!Number.isFinite(value)) return colours.line;
    if (this.colour === "changed") return this.lens.distanceColour(value);
    const t = (value - this.least) / (this.largest - this.least || 1);
    return this.ramp(this.colour === "pearson" ? 1 - t : t);
  }
  ramp(t) {
    const { ramp } = this.panel.colours;
    const at = Math.min(ramp.length - 2, Math.floor(t * (ramp.length - 1)));
    return mix(hex(ramp[at]), hex(ramp[at + 1]), t * (ramp.length - 1) - at);
  }

  // -- drawing -----------------------------------------------------------------------------------
  paintBar() {
    const { shape } = this;
    const shown = this.order.length;
    this.slider.max = shape.orders.length - 1;
    this.slider.value = shape.orders.findIndex((order) => order.length === shown);
    this.slider.disabled = shape.orders.length < 2;
    this.slider.setAttribute("aria-valuetext", `${shown} of ${shape.count} minima`);
    const word = this.panel.m.word;
    this.select.replaceChildren(
      ...Object.entries(COLOURS).map(([value, name]) =>
        element("option", { value, textContent: value === "changed" ? `${word}s ${name}` : name }),
      ),
    );
    this.select.value = this.colour;
    this.said.textContent = this.thinned();
    this.said.title = this.said.textContent;
  }
  thinned() {
    const { shape } = this;
    const { m } = this.panel;
    const shown = this.order.length;
    if (shape.count === 1) return "One minimum: every listed state drains into it.";
    if (shown === shape.count) return `All ${shown} minima among the listed states.`;
    const others = m.minima.map((_, i) => i).filter((i) => !this.kept.has(i));
    const depth = Math.max(...others.map((i) => shape.depth(i)));
    const open = others.some((i) => shape.saddle[i] < 0) ? " or the list's end" : "";
    const deep = m.worded(depth / m.scale, 2);
    return `${shown} of ${shape.count} minima; the others lie at most ${deep} below their barrier${open}.`;
  }
  draw(ctx) {
    const { panel } = this;
    this.values();
    this.paintBar();
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT - 1, 8, panel.w - LEFT + 1, panel.head + panel.height + 8);
    ctx.clip();
    this.branches(ctx);
    for (const i of this.order) this.dot(ctx, i, this.shade(i), this.radius);
    ctx.restore();
    this.labels(ctx);
    this.limit(ctx);
    this.scaleBar(ctx);
    this.legend(ctx);
  }
  branches(ctx) {
    const { panel, shape } = this;
    for (const i of this.order) {
      const [x, end] = [this.x.get(i), this.end(i)];
      ctx.fillStyle = this.shade(i);
      const width = Math.min(2, Math.max(1, this.spacing / 3));
      ctx.fillRect(x - width / 2, end, width, this.y(i) - end);
    }
    ctx.fillStyle = panel.colours.muted;
    for (const i of this.order)
      if (shape.saddle[i] >= 0) {
        const [from, to] = [this.x.get(i), this.x.get(shape.parent[i])].sort((a, b) => a - b);
        ctx.fillRect(from - 0.5, this.end(i) - 0.5, to - from + 1, 1);
      }
  }
  dot(ctx, i, colour, radius) {
    ctx.fillStyle = colour;
    ctx.beginPath();
    ctx.arc(this.x.get(i), this.y(i), radius, 0, 7);
    ctx.fill();
    if (colour !== this.panel.colours.line) return;
    ctx.strokeStyle = this.panel.colours.muted; // nothing is known of it
    ctx.lineWidth = 1;
    ctx.stroke();
  }
  labels(ctx) {
    // the rank below a leaf, the units changed beside it, where there is room: the most persistent first
    const { panel, shape } = this;
    const r = this.radius;
    const inside = (y) => y > 4 && y < panel.head + panel.height + 8;
    const first = [...this.order].filter((i) => inside(this.y(i)));
    first.sort((i, j) => shape.depth(j) - shape.depth(i) || i - j);
    const taken = first.map((i) => [this.x.get(i) - r, this.y(i) - r, 2 * r, 2 * r]);
    const stems = [...this.order].map((i) => [this.x.get(i) - 1, this.end(i), 2, this.y(i) - this.end(i)]);
    const joins = [...this.order]
      .filter((i) => shape.saddle[i] >= 0)
      .map((i) => {
        const [from, to] = [this.x.get(i), this.x.get(shape.parent[i])].sort((a, b) => a - b);
        return [from, this.end(i), to - from, 0];
      });
    const put = (box, text, look) => {
      const lines = [...stems, ...joins];
      if (box[0] < LEFT || box[0] + box[2] > panel.w || ![...taken, ...lines].every((b) => apart(b, box)))
        return;
      taken.push(box);
      panel.text(ctx, text, look.align ? box[0] : box[0] + box[2] / 2, box[1] + box[3] / 2, look);
    };
    for (const i of first.slice(0, MOST_LABELS)) {
      const text = `#${panel.m.minima[i]}`;
      put([this.x.get(i) - 3.35 * text.length, this.y(i) + r + 5, 6.7 * text.length, 10], text, {});
    }
    if (this.colour !== "changed") return;
    for (const i of first.slice(0, MOST_LABELS).filter((leaf) => leaf > 0)) {
      const text = String(this.value.get(i));
      const box = [this.x.get(i) + r + 4, this.y(i) - 5, 6.7 * text.length, 9];
      put(box, text, { align: "left" });
    }
  }
  limit(ctx) {
    // up to where every state is listed
    const { panel, shape } = this;
    const { m } = panel;
    const y = Math.round(panel.y(m.top));
    if (shape.whole || y < 10 || y > panel.head + panel.height) return;
    ctx.fillStyle = panel.colours.muted;
    for (let x = LEFT; x < panel.w; x += 5) ctx.fillRect(x, y, 2, 1);
    const apart = [...shape.parent].filter((i) => i < 0).length > 1 ? "not connected below" : "listed up to";
    const words = `${apart} ${significant(m.top)}${m.exact ? "" : ", not proved"}`;
    panel.text(ctx, words, panel.w - 4, y - 12, { align: "right" });
  }
  scaleBar(ctx) {
    // one step of the axis, in gaps
    const { panel } = this;
    const { m } = panel;
    if (m.levels.length < 2) return;
    const [from, to] = ticks(panel.lo, panel.hi);
    if (to === undefined) return;
    const [low, high] = [panel.y(from), panel.y(to)];
    ctx.fillStyle = panel.colours.text;
    ctx.fillRect(LEFT - 1, high, 2, low - high);
    ctx.fillRect(LEFT - 3, high - 0.5, 6, 1);
    ctx.fillRect(LEFT - 3, low - 0.5, 6, 1);
    if (low - high < 38) return;
    const gaps = (to - from) / m.delta(m.levels[1][0]);
    const number =
      gaps < 1e4 ? significant(gaps, gaps < 100 ? 2 : 3) : gaps.toExponential(0).replace("+", "");
    panel.text(ctx, number, LEFT - 7, (low + high) / 2 - 6, { align: "right" });
    panel.text(ctx, "gaps", LEFT - 7, (low + high) / 2 + 6, { align: "right" });
  }
  legend(ctx) {
    const { panel } = this;
    if (this.colour === "changed") return panel.legend(ctx, "digit, shade: ");
    const name = COLOURS[this.colour];
    const missing = {
      pearson: "the tray is empty: pick states with A",
      loss: "no minimum here is measured: Compare does",
    };
    if (!(this.least <= this.largest))
      return panel.text(ctx, missing[this.colour], panel.w, panel.h - 5, { align: "right" });
    const show = this.colour === "loss" ? (v) => plus(v, 3) : (v) => plus(v);
    const ends = this.colour === "loss" ? [this.least, this.largest] : [this.largest, this.least];
    const x = panel.w - 126;
    panel.text(ctx, name, x - 8, panel.h - 5, { align: "right" });
    for (let c = 0; c < 7; c++) {
      ctx.fillStyle = this.ramp(c / 6);
      ctx.fillRect(x + 18 * c, panel.h - 3, 17, 3);
    }
    panel.text(ctx, show(ends[0]), x, panel.h - 9, { align: "left" });
    panel.text(ctx, show(ends[1]), panel.w, panel.h - 9, { align: "right" });
  }

  // -- what is selected and hovered --------------------------------------------------------------
  drawOver(ctx) {
    const { panel, lens } = this;
    if (this.made !== this.source()) panel.draw();
    const { colours, m } = panel;
    const { here, hovered } = lens;
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT - 8, 2, panel.w - LEFT + 8, panel.head + panel.height + 22);
    ctx.clip();
    const units = hovered.unit === undefined ? (hovered.pair ?? []) : [hovered.unit];
    if (units.length)
      for (const i of this.order)
        if (units.every((u) => m.mask[m.minima[i] * m.blocks + u]))
          this.ring(ctx, i, 2.5, colours.removed, 2);
    for (const k of lens.measuredRanks)
      if (m.minimum[k]) this.ring(ctx, this.leafOf(k), 3.5, colours.text, 1);
    for (const k of lens.trayRanks()) if (m.minimum[k]) this.box(ctx, this.leafOf(k));
    if (here.rank !== undefined) {
      this.wayDown(ctx, this.shape.valley[here.rank], colours.text);
      this.lit(ctx, here.rank, colours.text);
      this.name(ctx, here.rank, `#${here.rank}`, colours.text);
    } else if (here.delta !== null) this.across(ctx);
    if (hovered.join !== undefined) this.joint(ctx, hovered.join);
    else if (hovered.state !== undefined && hovered.state !== here.rank) {
      this.wayDown(ctx, this.shape.valley[hovered.state], colours.accent);
      this.lit(ctx, hovered.state, colours.accent);
    }
    ctx.restore();
    const named = hovered.state;
    if (named !== undefined) this.name(ctx, named, `#${named}: ${m.said(m.state(named))}`, colours.accent);
    panel.ring(ctx);
  }
  leafOf(k) {
    // the leaf that stands for a state: its valley's, or the one which that joins
    return this.shape.shown(this.shape.valley[k], this.kept);
  }
  ring(ctx, i, more, colour, width) {
    if (i < 0 || !this.kept.has(i)) return;
    ctx.strokeStyle = colour;
    ctx.lineWidth = width;
    ctx.beginPath();
    ctx.arc(this.x.get(i), this.y(i), this.radius + more, 0, 7);
    ctx.stroke();
  }
  box(ctx, i) {
    if (i < 0) return;
    const r = this.radius + 3;
    ctx.strokeStyle = this.panel.colours.accent;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(this.x.get(i) - r, this.y(i) - r, 2 * r, 2 * r);
  }
  wayDown(ctx, minimum, colour) {
    // the branches that lead from a leaf over its barriers to the ground state's
    const { shape } = this;
    const start = shape.shown(minimum, this.kept);
    if (start < 0) return;
    const route = shape.route(start);
    ctx.strokeStyle = colour;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.moveTo(this.x.get(start), this.y(start));
    route.forEach((i, n) => {
      if (n === route.length - 1) return;
      ctx.lineTo(this.x.get(i), this.end(i));
      ctx.lineTo(this.x.get(route[n + 1]), this.end(i));
    });
    const last = route.at(-1);
    ctx.lineTo(this.x.get(last), last === 0 ? this.y(0) : this.end(last));
    if (route.length > 1 || last !== 0) ctx.stroke();
  }
  lit(ctx, k, colour) {
    // the leaf of a state's valley; the state itself where it stands on a branch
    const { panel } = this;
    const leaf = this.leafOf(k);
    if (leaf >= 0) {
      if (panel.m.minima[leaf] === k) this.dot(ctx, leaf, this.shade(leaf), this.radius + 2);
      this.ring(ctx, leaf, 2, colour, 2);
    }
    const x = this.xOf(k);
    if (x === undefined || panel.m.minima[leaf] === k) return;
    ctx.fillStyle = colour;
    ctx.fillRect(x - 6, panel.y(panel.m.delta(k)) - 1.5, 12, 3);
  }
  across(ctx) {
    // a state that is not listed has a height, but no branch
    const { panel } = this;
    const y = Math.min(panel.head + panel.height, Math.max(10, panel.y(this.lens.here.delta)));
    ctx.fillStyle = panel.colours.text;
    ctx.fillRect(LEFT, y - 0.75, panel.w - LEFT, 1.5);
    panel.text(ctx, panel.m.nameOf(this.lens.here), panel.w - 4, y - 8, {
      align: "right",
      colour: panel.colours.text,
      bold: true,
    });
  }
  joint(ctx, i) {
    const { colours } = this.panel;
    this.wayDown(ctx, i, colours.accent);
    this.ring(ctx, i, 2, colours.accent, 2);
    this.ring(ctx, this.shape.parent[i], 2, colours.accent, 2);
  }
  name(ctx, k, text, colour) {
    // beside the state, on a ground of its own
    const { panel } = this;
    const x = this.xOf(k);
    if (x === undefined) return;
    const most = Math.floor((panel.w - LEFT - 8) / 6.7);
    const words = text.length > most ? `${text.slice(0, most - 1)}…` : text;
    const half = 3.35 * words.length;
    const centre = Math.max(LEFT + half, Math.min(panel.w - half - 4, x));
    const below = panel.y(panel.m.delta(k)) + this.radius + 10;
    const y = Math.min(panel.head + panel.height + 13, Math.max(8, below));
    ctx.fillStyle = panel.colours.ground;
    ctx.fillRect(centre - half - 2, y - 6, 2 * half + 4, 12);
    panel.text(ctx, words, centre, y, { colour, bold: true });
  }

  // -- the pointer and the keys ------------------------------------------------------------------
  find(x, y) {
    const { shape } = this;
    const { m } = this.panel;
    let best = 14 * 14;
    let leaf = -1;
    for (const i of this.order) {
      const d = (this.x.get(i) - x) ** 2 + (this.y(i) - y) ** 2;
      if (d < best) [best, leaf] = [d, i];
    }
    if (leaf >= 0) return { state: m.minima[leaf] };
    const among = (a, b) => x > Math.min(a, b) - 3 && x < Math.max(a, b) + 3;
    const join = [...this.order].find(
      (i) =>
        shape.saddle[i] >= 0 &&
        Math.abs(this.end(i) - y) < 4 &&
        among(this.x.get(i), this.x.get(shape.parent[i])),
    );
    if (join !== undefined) return { state: shape.saddle[join], join };
    const stem = [...this.order].find(
      (i) => Math.abs(this.x.get(i) - x) < 4 && y < this.y(i) && y > this.end(i),
    );
    return stem === undefined ? {} : { state: m.minima[stem] };
  }
  next(direction) {
    // rank of the leaf beside the one that is lit
    const { rank } = this.lens.here;
    const leaf = rank === undefined ? -1 : this.leafOf(rank);
    const { minima } = this.panel.m;
    if (leaf < 0) return minima[this.order[direction > 0 ? 0 : this.order.length - 1]];
    if (minima[leaf] !== rank) return minima[leaf];
    return minima[this.order[this.order.indexOf(leaf) + direction]];
  }
}
