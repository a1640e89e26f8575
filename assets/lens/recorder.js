// A canvas that writes down its calls as SVG.

export const escaped = (text) =>
  String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);
export const short = (v) => String(Math.round(v * 100) / 100);

export class Recorder {
  // The canvas calls that panels make, written down as SVG.
  constructor(name) {
    this.name = name;
    this.parts = [];
    this.path = "";
    this.open = [];
    this.clips = 0;
  }
  beginPath() {
    this.path = "";
  }
  moveTo(x, y) {
    this.path += `M${short(x)} ${short(y)}`;
  }
  lineTo(x, y) {
    this.path += `L${short(x)} ${short(y)}`;
  }
  rect(x, y, w, h) {
    this.path += `M${short(x)} ${short(y)}h${short(w)}v${short(h)}h${short(-w)}z`;
  }
  roundRect(x, y, w, h) {
    this.rect(x, y, w, h);
  }
  arc(x, y, r, from, to) {
    this.ellipse(x, y, r, r, 0, from, Math.min(to, from + 2 * Math.PI));
  }
  ellipse(x, y, rx, ry, turn, from, to) {
    const at = (a) => `${short(x + rx * Math.cos(a))} ${short(y + ry * Math.sin(a))}`;
    const half = (from + to) / 2;
    const radii = `${short(rx)} ${short(ry)}`;
    this.path += `M${at(from)}A${radii} 0 0 1 ${at(half)}A${radii} 0 0 1 ${at(to)}`;
  }
  save() {
    this.open.push("");
  }
  restore() {
    this.parts.push(this.open.pop());
  }
  clip() {
    const id = `${this.name}-clip${this.clips++}`;
    this.parts.push(`<clipPath id="${id}"><path d="${this.path}"/></clipPath><g clip-path="url(#${id})">`);
    this.open[this.open.length - 1] += "</g>";
  }
  fill() {
    this.parts.push(`<path d="${this.path}" fill="${this.fillStyle}"/>`);
  }
  stroke() {
    this.parts.push(
      `<path d="${this.path}" fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"/>`,
    );
  }
  fillRect(x, y, w, h) {
    this.parts.push(
      `<rect x="${short(x)}" y="${short(y)}" ` +
        `width="${short(Math.max(0, w))}" height="${short(Math.max(0, h))}" ` +
        `fill="${this.fillStyle}"/>`,
    );
  }
  strokeRect(x, y, w, h) {
    this.parts.push(
      `<rect x="${short(x)}" y="${short(y)}" width="${short(w)}" height="${short(h)}" ` +
        `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"/>`,
    );
  }
  fillText(text, x, y) {
    const baseline = this.textBaseline === "middle" ? "central" : "auto";
    const anchor = { center: "middle", right: "end" }[this.textAlign] || "start";
    this.parts.push(
      `<text x="${short(x)}" y="${short(y)}" fill="${this.fillStyle}" text-anchor="${anchor}" ` +
        `dominant-baseline="${baseline}" style="font:${escaped(this.font)}">${escaped(text)}</text>`,
    );
  }
}
