// The couplings as a matrix: by block or unit in order of depth, or those of a kind together.

import { element } from "./dom.js";
import { LEFT, Panel, mix } from "./panel.js";
import { shortKind } from "./wording.js";

const ORDERS = ["Depth", "Kind"];

export class Matrix extends Panel {
  constructor(...args) {
    super(...args);
    this.byKind = false;
    this.tabs = ORDERS.map((order) =>
      element("button", {
        type: "button",
        className: "tab",
        textContent: order,
        title: order === "Kind" ? "attention with attention, FFN with FFN (O)" : "in order of depth (O)",
        onclick: () => this.reorder(order === "Kind"),
      }),
    );
    this.tools.append(...this.tabs);
  }
  reorder(byKind) {
    if (!this.m.halved) return;
    this.byKind = byKind;
    this.lens.hovered = {};
    this.draw();
    this.lens.repaintOver();
    this.lens.looked();
  }
  layout() {
    const { m } = this;
    this.tools.style.display = m.halved ? "" : "none";
    this.tabs.forEach((tab, k) => tab.setAttribute("aria-pressed", String(this.byKind === (k === 1))));
    this.size = Math.max(40, Math.min(this.h - 24, this.w - LEFT - 130));
    this.cell = this.size / m.blocks;
    this.order = m.halved && this.byKind ? m.byKind() : [...m.block.keys()];
    this.place = []; // of each unit in the order
    this.order.forEach((u, k) => (this.place[u] = k));
  }
  draw() {
    this.layout();
    const { m, colours } = this;
    const ctx = this.context(this.base);
    const c = this.cell;
    const seam = c > 6 ? 0.6 : 0;
    const spin = this.lens.spin;
    const half = spin ? 0.5 : 1;
    this.title.textContent = spin ? "Couplings Jᵢⱼ" : "Couplings Hᵢⱼ";
    this.note.textContent = spin
      ? "E = Σ hᵢsᵢ + Σᵢ<ⱼ Jᵢⱼsᵢsⱼ + const"
      : "E = Σ Hᵢᵢ + 2 Σᵢ<ⱼ Hᵢⱼ over removed";
    this.note.title = spin
      ? "s = 2x − 1: +1 removed, −1 kept. Jᵢⱼ = Hᵢⱼ / 2, hᵢ = ½ Σⱼ Hᵢⱼ."
      : "x = 1: removed. Diagonal Hᵢᵢ: own cost (not coloured). Off the " +
        "diagonal: purple raises the energy of removing both, green lowers it.";
    for (let i = 0; i < m.blocks; i++)
      for (let j = 0; j < m.blocks; j++) {
        const v = m.h(this.order[i], this.order[j]);
        const t = m.tone(v);
        ctx.fillStyle =
          i === j
            ? colours.empty
            : mix(colours.zero, t > 0 ? colours.positive : colours.negative, Math.abs(t));
        ctx.fillRect(LEFT + j * c, 6 + i * c, c - seam, c - seam);
      }
    if (m.halved && this.byKind) this.quarters(ctx);
    else this.depths(ctx);
    this.legend(ctx, half);
  }
  depths(ctx) {
    // the numbers of the blocks along both sides
    const { m } = this;
    const room = (this.cell * m.blocks) / m.columns; // of a block
    const step = [1, 2, 3, 4, 5, 6, 10, 20].find((s) => s * room >= 40) || 20;
    for (let b = 0; b < m.columns; b += step) {
      const own = m.unitsOf[b];
      const at = (own[0] + own[own.length - 1] + 1) / 2;
      this.text(ctx, b, LEFT - 5, 6 + at * this.cell, { align: "right" });
      this.text(ctx, b, LEFT + at * this.cell, this.size + 16);
    }
  }
  quarters(ctx) {
    // ruled off from each other, and named
    const { m, colours, cell } = this;
    let from = 0;
    for (const kind of m.kindsInOrder) {
      const to = from + m.kinds.filter((k) => k === kind).length;
      ctx.fillStyle = colours.text;
      if (from > 0) {
        ctx.fillRect(LEFT - 40, 6 + from * cell - 0.5, this.size + 40, 1);
        ctx.fillRect(LEFT + from * cell - 0.5, 6, 1, this.size + 16);
      }
      const at = ((from + to) / 2) * cell;
      this.text(ctx, shortKind(kind), LEFT - 5, 6 + at, { align: "right" });
      const wide = (to - from) * cell > 6.7 * kind.length;
      this.text(ctx, wide ? kind : kind.slice(0, 3), LEFT + at, this.size + 16);
      from = to;
    }
  }
  legend(ctx, half) {
    const { m, colours } = this;
    const x = LEFT + this.size + 14;
    const height = Math.min(96, this.size - 20);
    for (let y = 0; y < height; y++) {
      const t = 1 - (2 * y) / height;
      ctx.fillStyle = mix(colours.zero, t > 0 ? colours.positive : colours.negative, Math.abs(t));
      ctx.fillRect(x, 8 + y, 9, 1.5);
    }
    const value = (t) =>
      m.signedLog
        ? m.linearBelow * Math.expm1(t * Math.log1p(m.maxCoupling / m.linearBelow))
        : t * m.maxCoupling;
    for (const t of m.maxCoupling ? [1, 0.5, 0, -0.5, -1] : [0])
      this.text(
        ctx,
        t === 0 ? "0" : (t > 0 ? "+" : "−") + m.show(half * value(Math.abs(t)), 2),
        x + 14,
        8 + ((1 - t) / 2) * height,
        { align: "left" },
      );
    this.text(ctx, (m.signedLog ? "signed log" : "linear") + m.unitText, x, height + 22, { align: "left" });
    Object.assign(this.lens.card.strongest.style, { left: `${x}px`, top: `${height + 36}px` });
  }
  drawOver() {
    const ctx = this.context(this.over);
    const { colours, lens } = this;
    const c = this.cell;
    const state = lens.here.units.map((u) => this.place[u]);
    ctx.strokeStyle = colours.text;
    ctx.lineWidth = 1;
    if (c > 4)
      for (const i of state)
        for (const j of state) if (i !== j) ctx.strokeRect(LEFT + j * c - 0.3, 6 + i * c - 0.3, c, c);
    ctx.fillStyle = colours.removed;
    for (const i of state) {
      ctx.fillRect(LEFT + i * c, this.size + 6, c - 0.5, 3);
      ctx.fillRect(LEFT - 3.5, 6 + i * c, 3, c - 0.5);
    }
    ctx.strokeStyle = colours.accent;
    ctx.lineWidth = 1.5;
    for (const u of lens.hoveredUnits()) {
      ctx.strokeRect(LEFT + this.place[u] * c, 6, c, this.size);
      ctx.strokeRect(LEFT, 6 + this.place[u] * c, this.size, c);
    }
  }
  find(x, y) {
    const j = Math.floor((x - LEFT) / this.cell);
    const i = Math.floor((y - 6) / this.cell);
    const n = this.m.blocks;
    return i >= 0 && j >= 0 && i < n && j < n ? { pair: [this.order[i], this.order[j]] } : {};
  }
}
