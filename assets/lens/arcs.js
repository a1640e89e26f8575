// The interaction graph: the strongest couplings as arcs over the block axis, H > 0 above, H < 0 below.

import { LEFT, Panel } from "./panel.js";

// by branch, a shape for each kind, in the order in which they come
const SHAPES = [
  (ctx, x, y, r) => ctx.arc(x, y, r, 0, 7),
  (ctx, x, y, r) => ctx.rect(x - r, y - r, 2 * r, 2 * r),
  (ctx, x, y, r) => corners(ctx, [x, y - 1.3 * r], [x + 1.3 * r, y], [x, y + 1.3 * r], [x - 1.3 * r, y]),
  (ctx, x, y, r) => corners(ctx, [x, y - 1.2 * r], [x + 1.2 * r, y + r], [x - 1.2 * r, y + r]),
];

const corners = (ctx, first, ...others) => {
  ctx.moveTo(...first);
  for (const corner of [...others, first]) ctx.lineTo(...corner);
};

export class Arcs extends Panel {
  draw() {
    const { m } = this;
    const ctx = this.context(this.base);
    this.note.textContent = `${m.halved ? 2 : 3} strongest per ${m.word} · above H > 0, below H < 0`;
    this.note.title =
      `The ${m.halved ? "two" : "three"} strongest couplings of every ${m.word}: above the axis they raise the energy of ` +
      "removing both, below they lower it. Wider is stronger.";
    const thin = m.halved ? Math.min(1, this.column / m.lanes / 8) : 1; // in little room
    m.edges.forEach((edge, k) => this.arc(ctx, edge, thin * (0.4 + 2.2 * (1 - k / m.edges.length)), 0.65));
    this.nodes(ctx, new Set());
    const every = this.every();
    for (let b = 0; b < m.columns; b += every) this.text(ctx, b, this.x(b) + this.column / 2, this.h - 6);
    if (m.halved) this.legend(ctx);
  }
  legend(ctx) {
    let x = LEFT;
    this.m.kindsInOrder.forEach((kind, k) => {
      ctx.fillStyle = this.colours.ground;
      ctx.fillRect(x - 4, 1, 20 + 6.7 * kind.length, 14); // it is read before the arcs behind it
      ctx.fillStyle = this.colours.muted;
      ctx.beginPath();
      SHAPES[k % SHAPES.length](ctx, x + 3, 8, 3.5);
      ctx.fill();
      this.text(ctx, kind, x + 12, 8, { align: "left" });
      x += 30 + 6.7 * kind.length;
    });
  }
  // where a unit stands on the axis: the parts of a block side by side
  centre(unit) {
    const { block, lane, unitsOf } = this.m;
    const own = unitsOf[block[unit]].length;
    return this.x(block[unit]) + (this.column * (lane[unit] + 0.5)) / own;
  }
  arc(ctx, [i, j, v], width, alpha) {
    const y = this.h / 2;
    const from = this.centre(i);
    const to = this.centre(j);
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
    const { m } = this;
    for (let u = 0; u < m.blocks; u++) {
      ctx.fillStyle = state.has(u) ? this.colours.removed : this.colours.muted;
      const room = (this.column / m.unitsOf[m.block[u]].length) * 0.45;
      const shape = m.halved ? m.kindsInOrder.indexOf(m.kinds[u]) % SHAPES.length : 0;
      ctx.beginPath();
      SHAPES[Math.max(0, shape)](ctx, this.centre(u), this.h / 2, Math.min(state.has(u) ? 5 : 2.5, room));
      ctx.fill();
    }
  }
  drawOver() {
    const ctx = this.context(this.over);
    const { lens, m } = this;
    const units = lens.hoveredUnits();
    if (units.length) {
      const touching = m.edges.filter(([i, j]) =>
        units.length === 2 ? units.includes(i) && units.includes(j) : units.includes(i) || units.includes(j),
      );
      for (const edge of touching) this.arc(ctx, edge, 3, 1);
    }
    this.nodes(ctx, new Set(lens.here.units));
    for (const u of units)
      this.text(ctx, m.names[u], this.centre(u), this.h / 2 + 14, {
        colour: this.colours.accent,
        bold: true,
      });
  }
  find(x) {
    const block = this.blockAt(x);
    return { unit: this.unitAt(block, (x - this.x(block)) / this.column) };
  }
}
