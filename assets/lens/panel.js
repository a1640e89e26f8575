// What every panel is: a title, tools, and two canvases on the block axis, for the data and for the hover.

import { button, element } from "./dom.js";
import { MONO } from "./palette.js";
import { Recorder } from "./recorder.js";

// margins shared by the panels that stand in block columns
export const LEFT = 44;
export const RIGHT = 26;

export const ticks = (from, to, wanted = 5) => {
  const raw = (to - from) / wanted;
  if (!(raw > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((s) => s * power).find((s) => s >= raw);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from(
    { length: Math.max(0, Math.floor(to / step + 1e-9) - first + 1) },
    (_, i) => (first + i) * step,
  );
};

export const mix = (from, to, t) => `rgb(${from.map((c, i) => Math.round(c + (to[i] - c) * t)).join(",")})`;

export class Panel {
  constructor(lens, className, title) {
    this.lens = lens;
    this.name = className;
    this.title = element("h2", { textContent: title });
    this.note = element("span", { className: "note" });
    this.tools = element("div", { className: "tools" });
    this.base = element("canvas");
    this.over = element("canvas", { className: "over" });
    this.base.setAttribute("aria-hidden", "true");
    this.over.setAttribute("aria-hidden", "true");
    this.plot = element("div", { className: "plot" }, this.base, this.over);
    this.grow = button("⤢", `maximise ${title} (F)`, () => this.lens.maximise(this), "icon");
    this.node = element(
      "section",
      { className: `panel ${className}` },
      element("div", { className: "heading" }, this.title, this.tools, this.note, this.grow),
      this.plot,
    );
    this.node.setAttribute("aria-label", title);
    this.node.addEventListener("pointerenter", () => (this.lens.active = this));
    this.over.addEventListener("pointermove", (e) => this.lens.hover(this.find(e.offsetX, e.offsetY)));
    this.over.addEventListener("pointerleave", () => this.lens.hover({}));
    this.over.addEventListener("click", (e) => {
      const hit = this.find(e.offsetX, e.offsetY);
      if (hit.state !== undefined) this.lens.select(hit.state);
      else if (hit.mark !== undefined) this.lens.open(this.lens.marks[hit.mark].removed);
      else if (hit.strip) this.lens.press(hit.unit);
      this.lens.frame.focus({ preventScroll: true });
    });
    this.over.addEventListener(
      "touchstart",
      (e) => (this.touched = [e.touches[0].clientX, e.touches[0].clientY]),
      { passive: true },
    );
    this.over.addEventListener("touchend", (e) => {
      // a swipe is an arrow key
      const [dx, dy] = [
        e.changedTouches[0].clientX - this.touched[0],
        e.changedTouches[0].clientY - this.touched[1],
      ];
      if (Math.abs(dx) > 40 && Math.abs(dx) > 2 * Math.abs(dy)) this.lens.step(dx < 0 ? 1 : -1);
    });
  }
  resize() {
    const { clientWidth: w, clientHeight: h } = this.plot;
    const ratio = window.devicePixelRatio || 1;
    [this.w, this.h] = [w, h];
    for (const canvas of [this.base, this.over]) {
      canvas.width = Math.round(w * ratio);
      canvas.height = Math.round(h * ratio);
    }
    this.ratio = ratio;
  }
  context(canvas) {
    if (this.recorder) {
      this.recorder.font = `11px ${MONO}`;
      return this.recorder;
    }
    const ctx = canvas.getContext("2d");
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.clearRect(0, 0, this.w, this.h);
    ctx.font = `11px ${MONO}`;
    return ctx;
  }
  svg() {
    // what is drawn, without what is hovered
    const hovered = this.lens.hovered;
    this.recorder = new Recorder(this.name);
    this.lens.hovered = {};
    try {
      this.draw();
      this.drawOver();
      return this.recorder.parts.join("\n");
    } finally {
      this.recorder = null;
      this.lens.hovered = hovered;
    }
  }
  get caption() {
    return "";
  } // what an exported figure says below the title
  get visible() {
    return this.w > 0 && this.h > 0;
  }
  get m() {
    return this.lens.model;
  }
  get colours() {
    return this.lens.colours;
  }
  // block columns, shared by the barcode and the arcs
  get column() {
    return (this.w - LEFT - RIGHT) / this.m.columns;
  }
  x(block) {
    return LEFT + block * this.column;
  }
  blockAt(px) {
    const b = Math.floor((px - LEFT) / this.column);
    return b >= 0 && b < this.m.columns ? b : undefined;
  }
  // the unit of a block at a part, 0 to 1, of its height or its width
  unitAt(block, part) {
    const own = this.m.unitsOf[block] ?? [];
    return own[Math.max(0, Math.min(own.length - 1, Math.floor(part * own.length)))];
  }
  every() {
    const need = this.m.columns > 100 ? 22 : this.m.columns > 10 ? 15 : 8;
    return [1, 2, 5, 10, 20, 50].find((s) => s * this.column >= need) || 100;
  } // labelled blocks
  text(
    ctx,
    string,
    x,
    y,
    { align = "center", colour = this.colours.muted, bold = false, baseline = "middle" } = {},
  ) {
    ctx.font = `${bold ? "600 " : ""}11px ${MONO}`;
    ctx.fillStyle = colour;
    ctx.textAlign = align;
    ctx.textBaseline = baseline;
    ctx.fillText(string, x, y);
  }
}
