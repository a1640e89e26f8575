// The interaction graph: the strongest couplings as arcs over the block axis, H > 0 above, H < 0 below.

import { Panel } from "./panel.js";

export class Arcs extends Panel {
  draw() {
    const { m } = this;
    const ctx = this.context(this.base);
    this.note.textContent = "3 strongest per block · above H > 0, below H < 0";
    this.note.title =
      "The three strongest couplings of every block: above the axis they raise the energy of " +
      "removing both, below they lower it. Wider is stronger.";
    m.edges.forEach((edge, k) => this.arc(ctx, edge, 0.4 + 2.2 * (1 - k / m.edges.length), 0.65));
    this.nodes(ctx, new Set());
    const every = this.every();
    for (let b = 0; b < m.blocks; b += every) this.text(ctx, b, this.x(b) + this.column / 2, this.h - 6);
  }
  arc(ctx, [i, j, v], width, alpha) {
    const y = this.h / 2;
    const from = this.x(i) + this.column / 2;
    const to = this.x(j) + this.column / 2;
    const height = (this.h / 2 - 18) * Math.sqrt((j - i) / Math.max(1, this.m.blocks - 1));
    const [r, g, b] = v > 0 ? this.colours.positive : this.colours.negative;
    ctx.strokeStyle = `rgba(${r},${g},${b},${alpha})`;
    ctx.lineWidth = width;
    ctx.beginPath();
    ctx.ellipse(
      (from + to) / 2,
      y,
      (to - from) / 2,
      height,
      0,
      v > 0 ? Math.PI : 0,
      v > 0 ? 2 * Math.PI : Math.PI,
    );
    ctx.stroke();
  }
  nodes(ctx, state) {
    for (let b = 0; b < this.m.blocks; b++) {
      ctx.fillStyle = state.has(b) ? this.colours.removed : this.colours.muted;
      ctx.beginPath();
      ctx.arc(
        this.x(b) + this.column / 2,
        this.h / 2,
        Math.min(state.has(b) ? 5 : 2.5, this.column * 0.45),
        0,
        7,
      );
      ctx.fill();
    }
  }
  drawOver() {
    const ctx = this.context(this.over);
    const { lens, m } = this;
    const blocks = lens.hoveredBlocks();
    if (blocks.length) {
      const touching = m.edges.filter(([i, j]) =>
        blocks.length === 2
          ? blocks.includes(i) && blocks.includes(j)
          : blocks.includes(i) || blocks.includes(j),
      );
      for (const edge of touching) this.arc(ctx, edge, 3, 1);
    }
    this.nodes(ctx, new Set(lens.here.blocks));
    for (const b of blocks)
      this.text(ctx, b, this.x(b) + this.column / 2, this.h / 2 + 14, {
        colour: this.colours.accent,
        bold: true,
      });
  }
  find(x) {
    return { block: this.blockAt(x) };
  }
}
