// The states as rows of a barcode in block columns, below the strip of blocks.

import { LEFT, Panel, RIGHT } from "./panel.js";

export class Barcode extends Panel {
  constructor(...args) {
    super(...args);
    this.first = 0;
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
    // frequency bars, block strip, rows
    this.barTop = 4;
    this.barHeight = 36;
    this.strip = 46;
    this.stripHeight = 19;
    this.top = 70;
    this.rowHeight = Math.max(3.6, Math.min(12, (this.h - this.top) / Math.min(this.m.count, 60)));
    this.rows = Math.min(this.m.count, Math.floor((this.h - this.top) / this.rowHeight));
  }
  y(k) {
    return this.top + (k - this.first) * this.rowHeight;
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
    this.note.textContent =
      `rows ${this.first}–${this.first + this.rows - 1} of ${m.count}, lowest first; ` +
      "bars: share of them that remove a block";
    ctx.fillStyle = colours.line;
    ctx.fillRect(LEFT, this.barTop + this.barHeight, this.w - LEFT - RIGHT, 1);
    const most = Math.max(...m.frequency) || 1;
    this.text(ctx, `${Math.round(100 * most)}%`, LEFT - 6, this.barTop + 6, { align: "right" });
    ctx.fillStyle = colours.removed;
    for (let b = 0; b < m.blocks; b++) {
      const h = (m.frequency[b] / most) * this.barHeight;
      ctx.fillRect(this.x(b) + inset, this.barTop + this.barHeight - h, c - 2 * inset, h);
    }
    ctx.fillStyle = colours.empty;
    for (let b = 0; b < m.blocks; b++)
      ctx.fillRect(this.x(b) + inset, this.top, c - 2 * inset, this.rows * this.rowHeight);
    ctx.fillStyle = colours.removed;
    const gap = this.rowHeight > 3.9 ? 0.8 : 0.3;
    for (let k = this.first; k < this.first + this.rows; k++)
      for (let i = 0; i < m.removed; i++)
        ctx.fillRect(
          this.x(m.list[k * m.removed + i]) + inset,
          this.y(k),
          c - 2 * inset,
          this.rowHeight - gap,
        );
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
    this.text(ctx, "min", this.w, this.strip + 10, { align: "right" });
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
    return new Set(finder.draft ?? here.blocks);
  }
  overStrip(ctx) {
    const { m, colours, lens } = this;
    const c = this.column;
    const state = this.removedNow;
    for (let b = 0; b < m.blocks; b++) {
      ctx.fillStyle = state.has(b) ? colours.removed : colours.empty;
      ctx.fillRect(this.x(b) + (c > 8 ? 1 : 0.5), this.strip, c - (c > 8 ? 2 : 1), this.stripHeight);
    }
    const label = (b, look) =>
      this.text(ctx, b, this.x(b) + c / 2, this.strip + this.stripHeight / 2 + 0.5, look);
    const every = this.every();
    for (let b = 0; b < m.blocks; b += every) {
      // on narrow columns a label is wider than its block, and stands on a ground of its own
      const on = state.has(b) && c > 8;
      if (c <= 8) this.plate(ctx, b, colours.ground);
      label(b, { colour: on ? colours.onRemoved : colours.text, bold: on });
    }
    const { block } = lens.hovered;
    if (c <= 8 && block !== undefined) {
      // a magnifier
      this.plate(ctx, block, colours.accent, 4);
      label(block, { colour: lens.dark ? "#0f1419" : "#ffffff", bold: true });
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
    const lines = (blocks, y, colour) => {
      ctx.fillStyle = colour;
      for (const b of blocks) ctx.fillRect(this.x(b) + 1, y + 0.5, this.column - 2, 3);
    };
    lines(lens.keep, this.strip + this.stripHeight, colours.accent);
    lines(lens.remove, this.strip - 3.5, colours.removed);
  }
  overWarnings(ctx) {
    // a corner: the block's gradient hides what it costs
    const { m, colours, lens } = this;
    const c = this.column;
    const state = this.removedNow;
    for (const b of Object.keys(m.warnings).map(Number)) {
      const x = this.x(b) + c - (c > 8 ? 1 : 0.5);
      const size = Math.min(6, c * 0.45);
      ctx.fillStyle = state.has(b) ? colours.empty : colours.text;
      ctx.beginPath();
      ctx.moveTo(x, this.strip);
      ctx.lineTo(x - size, this.strip);
      ctx.lineTo(x, this.strip + size);
      ctx.fill();
    }
    const { block, strip } = lens.hovered;
    const warned = strip && m.warnings[block];
    this.over.title = warned ? `Block ${block}: ${warned}` : "";
  }
  overRows(ctx) {
    const { colours, lens } = this;
    for (const b of lens.hoveredBlocks()) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 1.5;
      const bottom = this.top + this.rows * this.rowHeight;
      ctx.strokeRect(this.x(b), this.barTop, this.column, bottom - this.barTop);
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
  plate(ctx, block, colour, more = 0) {
    const width = 7 * String(block).length + 2 + more;
    ctx.fillStyle = colour;
    ctx.fillRect(
      this.x(block) + this.column / 2 - width / 2,
      this.strip + 2 - more / 2,
      width,
      this.stripHeight - 4 + more,
    );
  }
  find(x, y) {
    const block = this.blockAt(x);
    const k = this.first + Math.floor((y - this.top) / this.rowHeight);
    const state = y >= this.top && k < this.first + this.rows ? k : undefined;
    return {
      strip: block !== undefined && y >= this.strip && y < this.strip + this.stripHeight,
      state,
      block: state === undefined ? block : undefined,
      cell: state === undefined ? undefined : block,
    };
  }
}
