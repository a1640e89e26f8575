// The states as rows of a barcode in block columns, below the strip of blocks. By branch a block's column has
// a lane for each of its units, in the strip as in every row.

import { LEFT, Panel, RIGHT } from "./panel.js";
import { Thermometer } from "./thermometer.js";
import { shortKind } from "./wording.js";

const BETWEEN = 7; // two lanes of the strip: room for the marks of both

export class Barcode extends Panel {
  constructor(...args) {
    super(...args);
    this.first = 0;
    this.thermometer = new Thermometer(this.lens);
    this.plot.before(this.thermometer.bar);
    this.over.addEventListener(
      "wheel",
      (e) => {
        const last = Math.max(0, this.m.count - this.rows);
        const next = Math.min(
          last,
          Math.max(0, this.first + Math.sign(e.deltaY) * Math.max(1, Math.round(Math.abs(e.deltaY) / 25))),
        );
        if (next !== this.first) {
          e.preventDefault();
          this.first = next;
          this.draw();
          this.lens.repaintOver();
        }
      },
      { passive: false },
    );
  }
  layout() {
    // frequency bars, block strip, by branch the numbers of the blocks, rows
    const { lanes, halved, count } = this.m;
    this.barTop = 4;
    this.barHeight = 36;
    this.strip = 46;
    this.stripHeight = halved ? 12 * lanes + BETWEEN * (lanes - 1) : 19;
    this.numbers = halved ? this.strip + this.stripHeight + 11 : this.strip + this.stripHeight / 2 + 0.5;
    this.top = this.strip + this.stripHeight + (halved ? 21 : 5);
    const shown = (this.h - this.top) / Math.min(count, 60);
    this.rowHeight = Math.max(3.6 * lanes, Math.min(8 + 4 * lanes, shown));
    this.rows = Math.min(this.m.count, Math.floor((this.h - this.top) / this.rowHeight));
  }
  y(k) {
    return this.top + (k - this.first) * this.rowHeight;
  }
  lane(unit, top, height, between = 0) {
    // [y, height] of a unit's share of what its block has
    const { block, lane, unitsOf } = this.m;
    const own = unitsOf[block[unit]].length;
    const each = (height - between * (own - 1)) / own;
    return [top + lane[unit] * (each + between), each];
  }
  cell(unit) {
    // [x, y, width, height] in the strip
    const inset = this.column > 8 ? 1 : 0.5;
    const [y, height] = this.lane(unit, this.strip, this.stripHeight, BETWEEN);
    return [this.x(this.m.block[unit]) + inset, y, this.column - 2 * inset, height];
  }
  follow(k) {
    if (k < this.first) this.first = k;
    else if (k >= this.first + this.rows) this.first = k - this.rows + 1;
    else return false;
    return true;
  }
  draw() {
    this.layout();
    this.first = Math.min(this.first, Math.max(0, this.m.count - this.rows));
    const { m, colours } = this;
    const ctx = this.context(this.base);
    const c = this.column;
    const inset = c > 8 ? 1 : 0.5;
    this.title.textContent = `States × ${m.word}s`;
    this.note.textContent = `rows ${this.first}–${this.first + this.rows - 1} of ${m.count}, lowest first`;
    this.thermometer.paint();
    this.drawBars(ctx, inset);
    ctx.fillStyle = colours.empty;
    for (let b = 0; b < m.columns; b++)
      ctx.fillRect(this.x(b) + inset, this.top, c - 2 * inset, this.rows * this.rowHeight);
    this.drawRows(ctx, inset);
    this.text(ctx, "min", this.w, m.halved ? this.numbers : this.strip + 10, { align: "right" });
    if (m.halved) this.drawNumbers(ctx);
  }
  drawBars(ctx, inset) {
    // how likely each unit is removed
    const { m, colours } = this;
    ctx.fillStyle = colours.line;
    for (let k = 0; k < m.lanes; k++) {
      const y = this.barTop + ((k + 1) * this.barHeight) / m.lanes;
      ctx.fillRect(LEFT, y, this.w - LEFT - RIGHT, 1);
    }
    const share = this.thermometer.share();
    if (!share) return;
    const most = Math.max(...share) || 1;
    this.text(ctx, `${Math.round(100 * most)}%`, LEFT - 6, this.barTop + 6, { align: "right" });
    ctx.fillStyle = colours.removed;
    for (let u = 0; u < m.blocks; u++) {
      const [top, room] = this.lane(u, this.barTop, this.barHeight);
      const h = (share[u] / most) * (m.halved ? room - 2 : room);
      ctx.fillRect(this.x(m.block[u]) + inset, top + room - h, this.column - 2 * inset, h);
    }
  }
  drawRows(ctx, inset) {
    const { m, colours } = this;
    ctx.fillStyle = colours.removed;
    const gap = m.halved ? 1.4 : this.rowHeight > 3.9 ? 0.8 : 0.3;
    for (let k = this.first; k < this.first + this.rows; k++)
      for (const unit of m.list.subarray(m.starts[k], m.starts[k + 1])) {
        const [y, height] = this.lane(unit, this.y(k), this.rowHeight - gap);
        ctx.fillRect(this.x(m.block[unit]) + inset, y, this.column - 2 * inset, height);
      }
    for (let k = this.first; k < this.first + this.rows; k++) {
      if (k % 10 === 0) this.text(ctx, k, LEFT - 6, this.y(k) + this.rowHeight / 2, { align: "right" });
      if (m.minimum[k]) {
        const y = this.y(k) + this.rowHeight / 2;
        const x = this.w - RIGHT + 5;
        ctx.fillStyle = colours.muted;
        ctx.beginPath();
        ctx.moveTo(x, y);
        ctx.lineTo(x + 6, y - 3);
        ctx.lineTo(x + 6, y + 3);
        ctx.fill();
      }
    }
  }
  drawNumbers(ctx) {
    // of the blocks, and what the lanes are
    const { m } = this;
    for (let b = 0; b < m.columns; b += this.every())
      this.text(ctx, b, this.x(b) + this.column / 2, this.numbers);
    for (let k = 0; k < m.lanes; k++) {
      const kinds = new Set(m.unitsOf.filter((own) => own.length === m.lanes).map((own) => m.kinds[own[k]]));
      const [kind] = kinds;
      if (kinds.size > 1 || !kind) continue;
      const y = this.strip + 6 + k * (12 + BETWEEN);
      this.text(ctx, shortKind(kind), LEFT - 6, y, { align: "right" });
    }
  }
  drawOver() {
    const ctx = this.context(this.over);
    this.overStrip(ctx);
    this.overRules(ctx);
    this.overWarnings(ctx);
    this.overRows(ctx);
  }
  shown(k) {
    return k >= this.first && k < this.first + this.rows;
  }
  get removedNow() {
    const { finder, here } = this.lens;
    return new Set(finder.draft ?? here.units);
  }
  overStrip(ctx) {
    const { m, colours, lens } = this;
    const c = this.column;
    const state = this.removedNow;
    for (let u = 0; u < m.blocks; u++) {
      ctx.fillStyle = state.has(u) ? colours.removed : colours.empty;
      ctx.fillRect(...this.cell(u));
    }
    const label = (u, look) => this.text(ctx, m.names[u], this.x(m.block[u]) + c / 2, this.numbers, look);
    const every = this.every();
    for (let b = 0; b < m.blocks && !m.halved; b += every) {
      // on narrow columns a label is wider than its block, and stands on a ground of its own
      const on = state.has(b) && c > 8;
      if (c <= 8) this.plate(ctx, b, colours.ground);
      label(b, { colour: on ? colours.onRemoved : colours.text, bold: on });
    }
    const unit = lens.hovered.unit ?? (m.halved ? lens.hovered.cell : undefined);
    if ((c <= 8 || m.halved) && unit !== undefined) {
      // a magnifier
      this.plate(ctx, unit, colours.accent, 4);
      label(unit, { colour: lens.dark ? "#0f1419" : "#ffffff", bold: true });
    }
    if (lens.finder.draft) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 2;
      ctx.strokeRect(LEFT - 2, this.strip - 2, this.w - LEFT - RIGHT + 4, this.stripHeight + 4);
    }
  }
  overRules(ctx) {
    // under the strip: stays; over it: goes
    const { colours, lens } = this;
    const line = (unit, y, colour) => {
      ctx.fillStyle = colour;
      ctx.fillRect(this.x(this.m.block[unit]) + 1, y + 0.5, this.column - 2, 3);
    };
    for (const u of lens.keep) line(u, this.cell(u)[1] + this.cell(u)[3], colours.accent);
    for (const u of lens.remove) line(u, this.cell(u)[1] - 3.5, colours.removed);
  }
  overWarnings(ctx) {
    // a corner: the unit's gradient hides what it costs
    const { m, colours, lens } = this;
    const c = this.column;
    const state = this.removedNow;
    for (const u of Object.keys(m.warnings).map(Number)) {
      const x = this.x(m.block[u]) + c - (c > 8 ? 1 : 0.5);
      const [, y] = this.cell(u);
      const size = Math.min(6, c * 0.45);
      ctx.fillStyle = state.has(u) ? colours.empty : colours.text;
      ctx.beginPath();
      ctx.moveTo(x, y);
      ctx.lineTo(x - size, y);
      ctx.lineTo(x, y + size);
      ctx.fill();
    }
    const { unit, strip } = lens.hovered;
    const warned = strip && m.warnings[unit];
    this.over.title = warned ? `${m.titled(unit)}: ${warned}` : "";
  }
  overRows(ctx) {
    const { colours, lens, m } = this;
    for (const u of lens.hoveredUnits()) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 1.5;
      const bottom = this.top + this.rows * this.rowHeight;
      ctx.strokeRect(this.x(m.block[u]), this.barTop, this.column, bottom - this.barTop);
      if (m.halved) ctx.strokeRect(...this.cell(u));
    }
    for (const k of lens.measuredRanks) {
      // ring: measured
      if (!this.shown(k)) continue;
      ctx.strokeStyle = colours.text;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.arc(this.w - 5, this.y(k) + this.rowHeight / 2, 3, 0, 7);
      ctx.stroke();
    }
    for (const k of lens.trayRanks()) this.box(ctx, k, colours.accent, 1);
    if (lens.hovered.state !== undefined) this.box(ctx, lens.hovered.state, colours.accent, 1.5);
    if (lens.here.rank !== undefined) this.box(ctx, lens.here.rank, colours.text, 2);
  }
  box(ctx, k, colour, width) {
    if (!this.shown(k)) return;
    ctx.strokeStyle = colour;
    ctx.lineWidth = width;
    ctx.beginPath();
    ctx.roundRect(LEFT - 2, this.y(k) - 1.5, this.w - LEFT - RIGHT + 4, this.rowHeight + 2, 2);
    ctx.stroke();
  }
  plate(ctx, unit, colour, more = 0) {
    const { m } = this;
    const width = 7 * m.names[unit].length + 2 + more;
    const height = (m.halved ? 11 : this.stripHeight - 4) + more;
    const x = this.x(m.block[unit]) + this.column / 2 - width / 2;
    ctx.fillStyle = colour;
    ctx.fillRect(x, this.numbers - (m.halved ? 0 : 0.5) - height / 2, width, height);
  }
  get caption() {
    return this.thermometer.words;
  }
  find(x, y) {
    const block = this.blockAt(x);
    const row = (y - this.top) / this.rowHeight;
    const k = this.first + Math.floor(row);
    const state = y >= this.top && k < this.first + this.rows ? k : undefined;
    const strip = y >= this.strip && y < this.strip + this.stripHeight;
    const part =
      state !== undefined
        ? row - Math.floor(row)
        : y < this.strip
          ? (y - this.barTop) / this.barHeight
          : (y - this.strip) / this.stripHeight;
    const unit = this.unitAt(block, part);
    return {
      strip: unit !== undefined && strip,
      state,
      unit: state === undefined ? unit : undefined,
      cell: state === undefined ? undefined : unit,
    };
  }
}
