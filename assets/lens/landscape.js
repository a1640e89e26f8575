// The Landscape panel: every listed state on one energy axis, as a tree of minima, as levels or as a density.

import { button, element } from "./dom.js";
import { LEFT, Panel, ticks } from "./panel.js";
import { Tree } from "./tree.js";
import { significant } from "./wording.js";

export const VIEWS = ["tree", "levels", "density"]; // of the same energy axis

const NOTES = {
  tree: "leaf: valley · join: barrier",
  levels: "lower is predicted better",
  density: "listed states in each slice of energy",
};
const TREE =
  "Each leaf is a minimum at its energy, with its rank and the units changed against the ground state; two " +
  "branches join at the barrier between them. The bar on the axis is one step of it, in gaps. A square is in " +
  "the tray, a ring measured, a flag marked.";

export class Landscape extends Panel {
  constructor(...args) {
    super(...args);
    this.view = "levels";
    this.tree = new Tree(this);
    this.plot.before(this.tree.bar);
    this.tabs = VIEWS.map((view) =>
      element("button", {
        type: "button",
        className: "tab",
        textContent: view[0].toUpperCase() + view.slice(1),
        onclick: () => this.show(view),
      }),
    );
    this.tools.append(
      ...this.tabs,
      button("−", "zoom the energy axis out (−)", () => this.zoom(2), "icon"),
      button("+", "zoom the energy axis in (+)", () => this.zoom(0.5), "icon"),
      (this.resetButton = button("0", "whole energy axis (0)", () => this.reset(), "icon")),
    );
    this.over.addEventListener(
      "wheel",
      (e) => {
        // with Ctrl: zoom; without: pan what is zoomed
        if (e.ctrlKey || e.metaKey) this.zoom(e.deltaY > 0 ? 1.25 : 0.8, this.deltaAt(e.offsetY));
        else if (!this.zoomed) return;
        else {
          this.range(
            this.lo - Math.sign(e.deltaY) * (this.hi - this.lo) * 0.1,
            this.hi - Math.sign(e.deltaY) * (this.hi - this.lo) * 0.1,
          );
          this.lens.looked();
        }
        e.preventDefault();
      },
      { passive: false },
    );
  }
  turn(view) {
    this.view = view;
    this.tree.bar.hidden = view !== "tree";
    this.lens.hints?.paint();
  }
  show(view) {
    this.turn(view);
    this.lens.hovered = {};
    this.resize(); // the tree has a bar of its own
    this.draw();
    this.lens.repaintOver();
    this.lens.looked();
  }

  // -- the energy axis ---------------------------------------------------------------------------
  get extent() {
    // how far it can be zoomed out: to the listed states, and to states marked beyond them
    const shown = [
      ...this.lens.marks.map((mark) => mark.delta),
      this.lens.here.delta === null ? null : this.lens.here.delta / this.m.scale,
    ]
      .filter((d) => d !== null)
      .map((d) => d * this.m.scale);
    return [Math.min(0, ...shown) * 1.05, Math.max(this.m.top, 1.05 * Math.max(0, ...shown)) || 1];
  }
  get zoomed() {
    return this.lo !== 0 || this.hi !== (this.m.top || 1);
  }
  reset() {
    this.lo = 0;
    this.hi = this.m.top || 1;
    this.redraw();
    this.lens.looked();
  }
  zoom(factor, about) {
    const centre = about ?? Math.min(this.hi, Math.max(this.lo, this.lens.here.delta ?? this.lo));
    this.range(centre - (centre - this.lo) * factor, centre + (this.hi - centre) * factor);
    this.lens.looked();
  }
  range(lo, hi) {
    const [least, most] = this.extent;
    const span = Math.min(most - least, Math.max(hi - lo, (this.m.top || 1) * 1e-5));
    this.lo = Math.min(Math.max(lo, least), most - span);
    this.hi = this.lo + span;
    if (this.lo < 1e-9 * span && this.lo > 0) this.lo = 0;
    this.redraw();
  }
  redraw() {
    if (this.visible && this.colours) {
      this.draw();
      this.lens.repaintOver();
    }
  }
  follow(delta) {
    // a selected state is never out of sight
    if (delta === null || !this.zoomed || (delta >= this.lo && delta <= this.hi)) return false;
    const span = this.hi - this.lo;
    this.range(delta - span / 2, delta + span / 2);
    return true;
  }
  get head() {
    // above the tree there is room for what is not connected
    return this.view === "tree" ? 26 : 8;
  }
  y(delta) {
    return this.head + this.height * (1 - (delta - this.lo) / (this.hi - this.lo));
  }
  deltaAt(y) {
    return this.lo + (1 - (y - this.head) / this.height) * (this.hi - this.lo);
  }

  // -- drawing -----------------------------------------------------------------------------------
  prepare() {
    const { m } = this;
    this.columns =
      Math.max(
        m.maxChanged,
        ...this.lens.marks.filter((k) => k.delta !== null).map((k) => k.changed),
        this.lens.here.delta === null ? 0 : this.lens.here.changed,
      ) + 1;
    this.columnWidth = (this.w - LEFT - 8) / this.columns;
    this.height = this.h - 30 - this.head;
    this.tick = Math.max(3, Math.min(12, this.columnWidth * 0.16));
    this.px = new Float32Array(m.count);
    this.py = new Float32Array(m.count);
    const seen = Array.from({ length: this.columns }, () => 0);
    for (let k = 0; k < m.count; k++) {
      const c = m.changed[k];
      // golden ratio: neighbours in energy stand apart
      const spread = c === 0 ? 0.5 : (seen[c]++ * 0.6180339887) % 1;
      this.px[k] = this.columnX(c, spread);
      this.py[k] = this.y(m.delta(k));
    }
    if (this.view === "tree") this.tree.prepare();
  }
  columnX(c, spread) {
    return LEFT + c * this.columnWidth + this.tick / 2 + 3 + spread * (this.columnWidth - this.tick - 6);
  }
  draw() {
    this.prepare();
    const { m, colours } = this;
    const ctx = this.context(this.base);
    this.tabs.forEach((tab, k) => tab.setAttribute("aria-pressed", String(VIEWS[k] === this.view)));
    this.resetButton.disabled = !this.zoomed;
    const cut = this.zoomed
      ? `ΔE ${significant(this.lo, 3)}–${significant(this.hi, 3)} of ${significant(m.top, 3)}`
      : "";
    this.note.textContent = cut || NOTES[this.view];
    this.note.title =
      this.view === "tree"
        ? TREE
        : `Each line is a way to remove ${m.asked}; lower is predicted better. ` +
          `A dot is a minimum, a ring a measured state, a flag a marked one.`;
    for (const t of ticks(this.lo, this.hi)) {
      const y = this.y(t);
      ctx.fillStyle = colours.line;
      ctx.fillRect(LEFT, Math.round(y), this.w - LEFT, 1);
      this.text(
        ctx,
        Math.abs(t) < 1e-12 ? "0" : significant(t, this.zoomed && Math.abs(t) >= 1e-3 ? 3 : 2),
        LEFT - 5,
        y,
        { align: "right" },
      );
    }
    if (this.view === "tree") this.tree.draw(ctx);
    else this.drawStates(ctx);
    ctx.fillStyle = colours.ground;
    ctx.fillRect(LEFT + 1, 0, 8 + 6.7 * (2 + m.unitText.length), 13); // the label stands on no state
    this.text(ctx, `ΔE${m.unitText}`, LEFT + 4, 6, { align: "left" });
    this.flags(ctx);
  }
  drawStates(ctx) {
    const { m } = this;
    const density = this.view === "density";
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT - 1, 2, this.w - LEFT + 1, this.height + 10);
    ctx.clip();
    if (density) this.drawDensity(ctx);
    else this.drawLevels(ctx);
    ctx.restore();
    if (!density)
      for (let c = 0; c < this.columns; c++)
        this.text(ctx, c, LEFT + (c + 0.5) * this.columnWidth, this.height + 21);
    else
      for (const t of ticks(0, this.fullest, 3))
        this.text(ctx, t, LEFT + (t / this.fullest) * (this.w - LEFT - 40), this.height + 21);
    this.text(
      ctx,
      density ? "states" : `${m.word}s changed against the ${m.first}`,
      density ? LEFT + 24 : LEFT + (this.w - LEFT) / 2,
      this.h - 5,
    );
    if (density) this.legend(ctx);
  }
  drawLevels(ctx) {
    const { m } = this;
    this.degenerate(ctx);
    for (let k = m.count - 1; k >= 0; k--)
      if (this.py[k] > -4 && this.py[k] < this.height + 20)
        this.mark(ctx, k, this.lens.distanceColour(m.changed[k]));
  }
  degenerate(ctx) {
    // a line through the states that share a level, with their number
    let lined = Infinity;
    let labelled = Infinity;
    for (const [first, size] of this.m.levels) {
      const y = this.py[first];
      if (size < 2 || y < 0 || y > this.height + 12) continue;
      if (lined - y > 2) {
        ctx.fillStyle = this.colours.muted;
        ctx.fillRect(LEFT, y - 0.3, this.w - LEFT - 26, 0.6);
        lined = y;
      }
      if (labelled - y > 11) {
        this.text(ctx, `×${size}`, this.w - 2, y, { align: "right" });
        labelled = y;
      }
    }
  }
  drawDensity(ctx) {
    const { m } = this;
    const size = 7;
    const count = Math.max(1, Math.ceil(this.height / size));
    const colours = this.colours.ramp.length;
    this.bins = Array.from({ length: count }, () => ({
      count: 0,
      first: undefined,
      shares: Array.from({ length: colours }, () => 0),
    }));
    for (let k = 0; k < m.count; k++) {
      const bin = this.bins[this.binAt(this.py[k])];
      if (!bin || this.py[k] < 0 || this.py[k] > this.height + 9) continue;
      bin.count += 1;
      bin.first ??= k;
      bin.shares[Math.min(colours - 1, m.changed[k])] += 1;
    }
    this.fullest = Math.max(1, ...this.bins.map((b) => b.count));
    const unit = (this.w - LEFT - 40) / this.fullest;
    this.bins.forEach((bin, i) => {
      let x = LEFT;
      bin.shares.forEach((share, c) => {
        if (share) {
          ctx.fillStyle = this.colours.ramp[c];
          ctx.fillRect(x, 8 + i * size + 0.5, share * unit, size - 1);
          x += share * unit;
        }
      });
    });
  }
  binAt(y) {
    return Math.min(this.bins.length - 1, Math.max(0, Math.floor((y - 8) / 7)));
  }
  legend(ctx, about = "") {
    // the ramp: units changed against the ground state
    const last = Math.min(this.m.maxChanged, this.colours.ramp.length - 1);
    const x = this.w - 18 * (last + 1);
    this.text(ctx, `${about}${this.m.word}s changed`, x - 8, this.h - 5, { align: "right" });
    for (let c = 0; c <= last; c++) {
      ctx.fillStyle = this.colours.ramp[c];
      ctx.fillRect(x + 18 * c, this.h - 3, 17, 3);
      this.text(ctx, c === last && this.m.maxChanged > last ? `${c}+` : c, x + 18 * c + 8, this.h - 9);
    }
  }
  flagAt(mark) {
    // [x, y, out of range: -1 below, 1 above, 0 within]
    const at = this.flagX(mark);
    const y = this.y(mark.delta);
    return y < 4 ? [at, 22, 1] : y > this.height + this.head + 2 ? [at, this.height + 2, -1] : [at, y, 0];
  }
  flagX({ rank, changed }) {
    if (this.view === "levels") return rank !== null ? this.px[rank] : this.columnX(changed, 0.5);
    return (this.view === "tree" && rank !== null && this.tree.xOf(rank)) || this.w - 30;
  }
  flags(ctx) {
    // marked states: listed or not, at their energy or as an arrow to where it lies
    const { colours } = this;
    const taken = [];
    this.placed = [];
    this.lens.marks.forEach((mark, k) => {
      if (mark.delta === null) return;
      const [x, y, out] = this.flagAt(mark);
      this.placed.push([k, x, y]);
      ctx.strokeStyle = ctx.fillStyle = colours.text;
      ctx.lineWidth = 1;
      ctx.beginPath();
      if (out) {
        const d = out > 0 ? -1 : 1;
        ctx.moveTo(x, y + 6 * d);
        ctx.lineTo(x - 4, y);
        ctx.lineTo(x + 4, y);
        ctx.lineTo(x, y + 6 * d);
        ctx.fill();
      } else {
        ctx.moveTo(x, y);
        ctx.lineTo(x, y - 13);
        ctx.stroke();
        ctx.beginPath();
        ctx.moveTo(x, y - 13);
        ctx.lineTo(x + 7, y - 10.5);
        ctx.lineTo(x, y - 8);
        ctx.fill();
      }
      const width = 6.7 * mark.label.length;
      const left = x + 12 + width > this.w;
      const labelX = left ? x - 6 : x + 10;
      const box = [left ? labelX - width : labelX, out ? y + (out > 0 ? 2 : -8) : y - 16, width, 12];
      if (
        taken.some(
          ([bx, by, bw, bh]) =>
            box[0] < bx + bw && bx < box[0] + box[2] && box[1] < by + bh && by < box[1] + box[3],
        )
      )
        return; // labels never lie on each other; the list names all
      taken.push(box);
      ctx.fillStyle = colours.ground;
      ctx.fillRect(box[0] - 2, box[1], box[2] + 4, box[3]); // read before the lines behind it
      this.text(ctx, mark.label, labelX, box[1] + 6, {
        align: left ? "right" : "left",
        colour: colours.text,
      });
    });
  }
  mark(ctx, k, colour, grow = 0) {
    ctx.fillStyle = colour;
    const w = this.tick + 2 * grow;
    ctx.fillRect(this.px[k] - w / 2, this.py[k] - 0.75 - grow / 2, w, 1.5 + grow);
    if (this.m.minimum[k]) {
      ctx.beginPath();
      ctx.arc(this.px[k], this.py[k], 3 + grow, 0, 7);
      ctx.fill();
    }
  }
  beside(y) {
    // of a word: above its line, below it at the top of the picture
    return y < 14 ? y + 9 : y - 8;
  }
  label(ctx, string, x, y, colour) {
    const left = x > this.w - 60;
    this.text(ctx, string, x + (left ? -1 : 1) * (this.tick / 2 + 5), this.beside(y), {
      align: left ? "right" : "left",
      colour,
      bold: true,
    });
  }
  drawOver() {
    const ctx = this.context(this.over);
    const { colours, lens, m } = this;
    const here = lens.here;
    const shown = (k) => this.py[k] > 2 && this.py[k] < this.height + 12;
    if (this.view === "density") return this.overDensity(ctx);
    if (this.view === "tree") return this.tree.drawOver(ctx);
    for (const k of lens.measuredRanks)
      if (shown(k)) {
        ctx.strokeStyle = colours.text;
        ctx.lineWidth = 1;
        ctx.beginPath();
        ctx.arc(this.px[k], this.py[k], 6, 0, 7);
        ctx.stroke();
      } // ring: measured
    for (const k of lens.trayRanks())
      if (shown(k)) {
        ctx.strokeStyle = colours.accent;
        ctx.lineWidth = 1.5;
        ctx.strokeRect(this.px[k] - this.tick / 2 - 3, this.py[k] - 5, this.tick + 6, 10);
      }
    const hovered = lens.hovered.state;
    const { unit } = lens.hovered;
    if (hovered !== undefined && hovered !== here.rank && shown(hovered)) {
      this.mark(ctx, hovered, colours.accent, 2);
      this.label(ctx, `#${hovered}`, this.px[hovered], this.py[hovered], colours.accent);
    }
    if (unit !== undefined)
      for (let k = 0; k < m.count; k++)
        if (m.mask[k * m.blocks + unit] && shown(k)) this.mark(ctx, k, colours.removed);
    if (here.rank !== undefined && shown(here.rank)) {
      this.mark(ctx, here.rank, colours.text, 3);
      this.label(ctx, `#${here.rank}`, this.px[here.rank], this.py[here.rank], colours.text);
    }
    if (here.rank === undefined && here.delta !== null) this.unlisted(ctx, this.columnX(here.changed, 0.5));
    this.ring(ctx);
  }
  unlisted(ctx, x) {
    // the selected state where no line of the list stands
    const y = Math.min(this.height + 8, Math.max(10, this.y(this.lens.here.delta)));
    ctx.strokeStyle = this.colours.text;
    ctx.lineWidth = 2;
    ctx.strokeRect(x - this.tick / 2 - 2, y - 3, this.tick + 4, 6);
    this.label(ctx, this.m.nameOf(this.lens.here), x, y + 8, this.colours.text);
  }
  ring(ctx) {
    const found = this.placed.find(([k]) => k === this.lens.hovered.mark);
    if (found) {
      ctx.strokeStyle = this.colours.accent;
      ctx.lineWidth = 2;
      ctx.beginPath();
      ctx.arc(found[1], found[2], 7, 0, 7);
      ctx.stroke();
    }
  }
  overDensity(ctx) {
    const { colours, lens, m } = this;
    const here = lens.here;
    const line = (y, colour, text) => {
      if (y < 2 || y > this.height + 12) return;
      ctx.fillStyle = colour;
      ctx.fillRect(LEFT, y - 0.75, this.w - LEFT, 1.5);
      if (text) this.text(ctx, text, this.w - 4, this.beside(y), { align: "right", colour, bold: true });
    };
    for (const k of lens.trayRanks()) {
      ctx.fillStyle = colours.accent;
      if (this.py[k] > 2 && this.py[k] < this.height + 12) ctx.fillRect(LEFT - 4, this.py[k] - 1.5, 14, 3);
    }
    if (lens.hovered.state !== undefined && lens.hovered.state !== here.rank)
      line(this.py[lens.hovered.state], colours.accent, `#${lens.hovered.state}`);
    if (lens.hovered.unit !== undefined) {
      ctx.fillStyle = colours.removed;
      const step = (this.w - LEFT - 40) / this.fullest;
      const counts = new Uint16Array(this.bins.length);
      for (let k = 0; k < m.count; k++)
        if (m.mask[k * m.blocks + lens.hovered.unit] && this.py[k] > 0 && this.py[k] < this.height + 9)
          counts[this.binAt(this.py[k])] += 1;
      counts.forEach((n, i) => {
        if (n) ctx.fillRect(LEFT, 8 + i * 7 + 2.5, n * step, 2);
      });
    }
    if (here.delta !== null) line(this.y(here.delta), colours.text, m.nameOf(here));
    this.ring(ctx);
  }
  get caption() {
    return this.view === "tree" ? this.tree.thinned() : "";
  }
  find(x, y) {
    for (const [k, px, py] of this.placed)
      if (Math.abs(px - x) < 8 && y < py + 4 && y > py - 16) return { mark: k };
    if (this.view === "tree") return this.tree.find(x, y);
    if (this.view === "density") {
      const bin = this.bins[this.binAt(y)];
      return bin && bin.count ? { state: bin.first, slice: bin.count } : {};
    }
    let best = 18 * 18;
    let state;
    for (let k = 0; k < this.m.count; k++) {
      const dx = Math.max(0, Math.abs(this.px[k] - x) - this.tick / 2);
      const dy = this.py[k] - y;
      const d = dx * dx + dy * dy;
      if (d < best) {
        best = d;
        state = k;
      }
    }
    return { state };
  }
}
