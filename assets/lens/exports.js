// What leaves the page: links, code, tables and figures.

import { button, element } from "./dom.js";
import { escaped, short } from "./recorder.js";
import { sentence } from "./sentences.js";

const TYPES = { csv: "text/csv", json: "application/json", html: "text/html", svg: "image/svg+xml" };

export class Exports {
  // What leaves the page: links, code, tables and figures.
  constructor(lens) {
    this.lens = lens;
    const ask = (kind) => lens.send({ ask: "file", kind });
    this.node = element(
      "div",
      { className: "exports" },
      button("Copy link", "copy a link to this view", () => this.copy(this.link(), "The link")),
      button("Python", "copy the Python that makes this view", () =>
        this.copy(lens.snippets.python, "Python"),
      ),
      button("CLI", "copy the command line that makes this view", () =>
        this.copy(lens.snippets.cli, "The command line"),
      ),
      button("CSV", "download the states, or the maximised couplings, as CSV", () => this.csv()),
      button("JSON", "download the listed states as JSON, with where they come from", () => ask("json")),
      button("SVG", "download the figure as SVG", () => this.download(this.svg(), "svg")),
      button("PNG", "download the figure as PNG", () => this.png()),
      button("Report", "download a report of this view as one HTML file", () => ask("html")),
    );
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", "Copy and download");
  }
  async copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // not a secure context: the old way
      const area = element("textarea", { value: text });
      this.lens.root.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.lens.say(`${what} was copied.`);
  }
  link() {
    const { lens } = this;
    const url = new URL(location.href);
    const set = (name, value) => (value ? url.searchParams.set(name, value) : url.searchParams.delete(name));
    const named = (name) => lens.model.stored(name.split("-").map(Number)).join("-");
    set("cur", named(lens.here.name));
    set("tray", lens.tray.map(named).join("_"));
    set("look", lens.look);
    if (lens.maximised) set("panel", lens.maximised === lens.levels ? lens.levels.view : lens.maximised.name);
    return url.href;
  }
  save(blob, ending) {
    const { model, maximised } = this.lens;
    const panel = maximised ? `-${maximised.name}` : "";
    const by = model.halved ? "-by-branch" : "";
    const name = `blockscape-${model.title}${by}-${model.tag.replace(" = ", "")}${panel}`.replace(
      /[^\w.-]+/g,
      "-",
    );
    const url = URL.createObjectURL(blob);
    element("a", { href: url, download: `${name}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    this.lens.say(`${name}.${ending} was saved.`);
  }
  download(text, ending) {
    this.save(new Blob([text], { type: TYPES[ending] }), ending);
  }
  lines(rows) {
    this.download(rows.map((row) => row.join(",")).join("\n") + "\n", "csv");
  }
  csv() {
    const { lens } = this;
    const m = lens.model;
    const row = (name, i) => [name, ...m.names.map((_, j) => m.h(i, j))];
    const edge = ([i, j, v]) => [m.names[i], m.names[j], v];
    if (lens.maximised === lens.matrix) this.lines([[m.word, ...m.names], ...m.names.map(row)]);
    else if (lens.maximised === lens.arcs)
      this.lines([[`${m.word}_i`, `${m.word}_j`, "H_ij"], ...m.edges.map(edge)]);
    else lens.send({ ask: "file", kind: "csv" });
  }
  svg() {
    const { lens } = this;
    const { colours, model } = lens;
    const panels = lens.panels.filter((panel) => panel.visible);
    const boxes = panels.map((panel) => panel.node.getBoundingClientRect());
    const left = Math.min(...boxes.map((b) => b.left)) - 8;
    const top = Math.min(...boxes.map((b) => b.top)) - 8;
    const width = Math.ceil(Math.max(...boxes.map((b) => b.right)) - left + 8);
    const height = Math.ceil(Math.max(...boxes.map((b) => b.bottom)) - top + 8);
    const inner = panels.map((panel) => {
      const plot = panel.plot.getBoundingClientRect();
      const head = panel.node.getBoundingClientRect();
      return (
        `<text x="${short(head.left - left)}" y="${short(head.top - top + 14)}" fill="${colours.text}" ` +
        `style="font:600 14px system-ui, sans-serif">${escaped(panel.title.textContent)}</text>` +
        `<text x="${short(head.left - left)}" y="${short(head.top - top + 31)}" fill="${colours.muted}" ` +
        `style="font:11px system-ui, sans-serif">${escaped(panel.caption)}</text>` +
        `<g transform="translate(${short(plot.left - left)} ${short(plot.top - top)})">${panel.svg()}</g>`
      );
    });
    const title = `${escaped(model.title)}, ${model.tag}. ${escaped(sentence(lens))}`;
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
      `viewBox="0 0 ${width} ${height}" role="img"><title>${title}</title>` +
      `<rect width="100%" height="100%" fill="${colours.ground}"/>${inner.join("\n")}</svg>`
    );
  }
  async png() {
    const image = new Image();
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(this.svg());
    await image.decode();
    const canvas = element("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => this.save(blob, "png"), "image/png");
  }
}
