class Barcode extends Panel {
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
    this.note.textContent = `rows ${this.first}–${this.first + this.rows - 1} of ${m.count}, lowest first; bars: share of them that remove a block`;
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
    const { m, colours, lens } = this;
    const c = this.column;
    const state = new Set(lens.draft ?? lens.here.blocks);
    const every = this.every();
    for (let b = 0; b < m.blocks; b++) {
      ctx.fillStyle = state.has(b) ? colours.removed : colours.empty;
      ctx.fillRect(this.x(b) + (c > 8 ? 1 : 0.5), this.strip, c - (c > 8 ? 2 : 1), this.stripHeight);
    }
    for (let b = 0; b < m.blocks; b += every) {
      const on = state.has(b) && c > 8; // on narrower columns a label is wider than its block, and stands on a ground of its own
      if (c <= 8) this.plate(ctx, b, colours.ground);
      this.text(ctx, b, this.x(b) + c / 2, this.strip + this.stripHeight / 2 + 0.5, {
        colour: on ? colours.onRemoved : colours.text,
        bold: on,
      });
    }
    if (c <= 8 && lens.hovered.block !== undefined) {
      this.plate(ctx, lens.hovered.block, colours.accent, 4);
      this.text(
        ctx,
        lens.hovered.block,
        this.x(lens.hovered.block) + c / 2,
        this.strip + this.stripHeight / 2 + 0.5,
        { colour: lens.dark ? "#0f1419" : "#ffffff", bold: true },
      );
    } // a magnifier
    if (lens.draft) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 2;
      ctx.strokeRect(LEFT - 2, this.strip - 2, this.w - LEFT - RIGHT + 4, this.stripHeight + 4);
    }
    for (const [blocks, y, colour] of [
      [lens.keep, this.strip + this.stripHeight, colours.accent],
      [lens.remove, this.strip - 3.5, colours.removed],
    ]) {
      // under: stays, over: goes
      ctx.fillStyle = colour;
      for (const b of blocks) ctx.fillRect(this.x(b) + 1, y + 0.5, c - 2, 3);
    }
    for (const b of Object.keys(m.warnings).map(Number)) {
      // a corner: its gradient hides what it costs
      const x = this.x(b) + c - (c > 8 ? 1 : 0.5);
      const size = Math.min(6, c * 0.45);
      ctx.fillStyle = state.has(b) ? colours.empty : colours.text;
      ctx.beginPath();
      ctx.moveTo(x, this.strip);
      ctx.lineTo(x - size, this.strip);
      ctx.lineTo(x, this.strip + size);
      ctx.fill();
    }
    const warned = lens.hovered.strip && m.warnings[lens.hovered.block];
    this.over.title = warned ? `Block ${lens.hovered.block}: ${warned}` : "";
    const box = (k, colour, width) => {
      if (k < this.first || k >= this.first + this.rows) return;
      ctx.strokeStyle = colour;
      ctx.lineWidth = width;
      ctx.beginPath();
      ctx.roundRect(LEFT - 2, this.y(k) - 1.5, this.w - LEFT - RIGHT + 4, this.rowHeight + 2, 2);
      ctx.stroke();
    };
    for (const b of lens.hoveredBlocks()) {
      ctx.strokeStyle = colours.accent;
      ctx.lineWidth = 1.5;
      ctx.strokeRect(this.x(b), this.barTop, c, this.top + this.rows * this.rowHeight - this.barTop);
    }
    for (const k of lens.measuredRanks) {
      // ring: measured
      if (k < this.first || k >= this.first + this.rows) continue;
      ctx.strokeStyle = colours.text;
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.arc(this.w - 5, this.y(k) + this.rowHeight / 2, 3, 0, 7);
      ctx.stroke();
    }
    for (const k of lens.trayRanks()) box(k, colours.accent, 1);
    if (lens.hovered.state !== undefined) box(lens.hovered.state, colours.accent, 1.5);
    if (lens.here.rank !== undefined) box(lens.here.rank, colours.text, 2);
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

class Matrix extends Panel {
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
      : "x = 1: removed. Diagonal Hᵢᵢ: own cost (not coloured). Off the diagonal: purple raises the energy of removing both, green lowers it.";
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
    Object.assign(this.lens.strongest.style, { left: `${x}px`, top: `${height + 36}px` });
  }
  drawOver() {
    const ctx = this.context(this.over);
    const { m, colours, lens } = this;
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

class Arcs extends Panel {
  draw() {
    const { m } = this;
    const ctx = this.context(this.base);
    this.note.textContent = "3 strongest per block · above H > 0, below H < 0";
    this.note.title =
      "The three strongest couplings of every block: above the axis they raise the energy of removing both, below they lower it. Wider is stronger.";
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
