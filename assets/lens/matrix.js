// The couplings as a matrix in block columns.

import { LEFT, Panel, mix } from "./panel.js";

export class Matrix extends Panel {
  layout() {
    this.size = Math.max(40, Math.min(this.h - 24, this.w - LEFT - 130));
    this.cell = this.size / this.m.blocks;
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
        const v = m.h(i, j);
        const t = m.tone(v);
        ctx.fillStyle =
          i === j
            ? colours.empty
            : mix(colours.zero, t > 0 ? colours.positive : colours.negative, Math.abs(t));
        ctx.fillRect(LEFT + j * c, 6 + i * c, c - seam, c - seam);
      }
    const step = [1, 2, 3, 4, 5, 6, 10, 20].find((s) => s * c >= 40) || 20;
    for (let b = 0; b < m.blocks; b += step) {
      this.text(ctx, b, LEFT - 5, 6 + (b + 0.5) * c, { align: "right" });
      this.text(ctx, b, LEFT + (b + 0.5) * c, this.size + 16);
    }
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
    for (const t of [1, 0.5, 0, -0.5, -1])
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
    const state = lens.here.blocks;
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
    for (const b of lens.hoveredBlocks()) {
      ctx.strokeRect(LEFT + b * c, 6, c, this.size);
      ctx.strokeRect(LEFT, 6 + b * c, this.size, c);
    }
  }
  find(x, y) {
    const j = Math.floor((x - LEFT) / this.cell);
    const i = Math.floor((y - 6) / this.cell);
    const n = this.m.blocks;
    return i >= 0 && j >= 0 && i < n && j < n ? { pair: [i, j] } : {};
  }
}
