// The lens of Explore: every panel reads the same data and the same state, so hovering one lights all.
// Base canvases hold what depends on the data; overlays hold selection and hover and are redrawn in one
// frame.

import { Arcs } from "./arcs.js";
import { Barcode } from "./barcode.js";
import { Card } from "./card.js";
import { element } from "./dom.js";
import { Exports } from "./exports.js";
import { Finder } from "./finder.js";
import { Help } from "./help.js";
import { Hints } from "./hints.js";
import { pressed } from "./keys.js";
import { Landscape, VIEWS } from "./landscape.js";
import { Matrix } from "./matrix.js";
import { Model } from "./model.js";
import { PALETTE } from "./palette.js";
import { sentence } from "./sentences.js";
import { Tray } from "./tray.js";

const LABEL =
  "Energy landscape. Up and down walk the states, left and right the minima, A adds to the tray, " +
  "Enter compares, P prunes, question mark shows help.";
const SOON = 150; // milliseconds until Python hears of a click
const LATER = 500; // of a walk by keys, of a zoom: of where it ends, not of every step
const MOMENT = 50; // until it is seen again whether the page is at work
const PATIENCE = 3000; // for an answer, of a page that is not at work; then the message is said again

// A message that meets a run of the page costs that run its picture, and is lost where another one follows.
const atWork = () => document.querySelector("[data-testid=stApp]")?.dataset.testScriptState === "running";

class Lens {
  // What all panels share: the landscape, the selection, the tray and what is hovered.
  constructor(root) {
    this.hovered = {};
    this.seq = 0;
    this.timer = null; // of what Python hears soon
    this.waiting = null; // for the answer to a message, or until the page is not at work
    this.unheard = null; // the message that waits for its answer
    this.unsaid = false; // there is something for the next message
    this.asks = []; // what that one asks for
    this.tray = [];
    this.keep = [];
    this.remove = [];
    this.details = [];
    this.marks = [];
    this.measured = new Map();
    this.measuredRanks = [];
    this.spin = false;
    this.maximised = null;
    this.alone = false;
    this.build();
    this.standIn(root);
    this.showNarrow(this.barcode);
  }
  build() {
    this.levels = new Landscape(this, "levels", "Landscape");
    this.barcode = new Barcode(this, "states", "States × blocks");
    this.matrix = new Matrix(this, "matrix", "Couplings Hᵢⱼ");
    this.arcs = new Arcs(this, "arcs", "Interaction graph");
    this.panels = [this.levels, this.barcode, this.matrix, this.arcs];
    this.active = this.levels;
    this.card = new Card(this);
    this.matrix.plot.append(this.card.strongest);
    this.finder = new Finder(this);
    this.hints = new Hints(this);
    for (const panel of [this.levels, this.barcode]) panel.plot.before(this.hints.of(panel.name));
    this.levels.plot.before(this.hints.of("tree"));
    this.picks = new Tray(this);
    this.exports = new Exports(this);
    this.help = new Help(this);
    this.status = element("div", { className: "status" });
    this.status.setAttribute("role", "status");
    this.status.setAttribute("aria-live", "polite");
    this.narrowTabs = this.buildNarrowTabs();
    this.frame = element(
      "div",
      { className: "frame", tabIndex: 0 },
      this.narrowTabs,
      this.levels.node,
      this.barcode.node,
      element("div", { className: "side" }, this.card.node, this.finder.node, this.picks.node),
      this.matrix.node,
      this.arcs.node,
      element("div", { className: "foot" }, this.status, this.exports.node),
    );
    this.frame.setAttribute("role", "group");
    this.frame.setAttribute("aria-label", LABEL);
    this.probe = element("i", { className: "probe" }); // its colour changes with the theme
    this.frame.addEventListener("keydown", (e) => pressed(this, e));
    // nothing has the focus: the landscape has the keys
    this.everywhere = (e) => {
      if (document.activeElement === document.body && this.root.isConnected) pressed(this, e);
    };
    this.probe.addEventListener("transitionend", () => this.paint());
    this.observer = new ResizeObserver(() => this.layout());
    this.resized = () => this.layout(this.maximised !== null);
  }
  buildNarrowTabs() {
    const titles = { levels: "Landscape", states: "States", matrix: "Couplings", arcs: "Graph" };
    const tab = (panel) =>
      element("button", {
        type: "button",
        className: "tab",
        textContent: titles[panel.name],
        onclick: () => this.showNarrow(panel),
      });
    return element("div", { className: "narrow-tabs" }, ...this.panels.map(tab));
  }
  standIn(root) {
    // of the page: what is seen, typed and not yet heard comes along
    if (root === this.root) return;
    this.observer.disconnect();
    this.root = root;
    this.size = null;
    root.replaceChildren(this.frame, this.help.node, this.probe);
    document.addEventListener("keydown", this.everywhere);
    window.addEventListener("resize", this.resized);
    this.observer.observe(root);
  }
  close() {
    this.observer.disconnect();
    for (const timer of [this.timer, this.waiting, this.saying]) clearTimeout(timer);
    this.unsaid ||= this.timer !== null;
    this.timer = this.said = null;
    cancelAnimationFrame(this.pending);
    this.pending = 0;
    if (!this.hovered.keys) this.hovered = {}; // who walks the strip by keys goes on where they are
    document.removeEventListener("keydown", this.everywhere);
    window.removeEventListener("resize", this.resized);
  }

  // -- what comes from the page ----------------------------------------------------------------
  /**
   * @param {import("./messages.js").LensData} data
   * @param {(name: string, message: import("./messages.js").Commit) => void} trigger
   */
  update(data, trigger) {
    this.trigger = trigger;
    const called = data.moves !== this.moves || data.landscape.source !== this.model?.source;
    this.moves = data.moves;
    this.seq = Math.max(this.seq, data.seq);
    if (called) this.forget();
    if (data.seq >= this.unheard?.seq) this.heard();
    const behind = this.unheard !== null || this.unsaid;
    // what was chosen, and how it is looked at, while this was solved is not known to the page yet
    const ahead = !called && (this.timer !== null || behind);
    const look = ahead ? this.look.split("~").filter((part) => !part.includes(":")) : data.look.split("~");
    const earlier = this.model;
    const solved = this.takeLandscape(data.landscape);
    const moved = solved || called || (!ahead && String(data.cursor) !== String(this.here.units));
    if (moved) {
      this.chosen = ahead && this.chosen && this.model.continues(earlier, this.here.units);
      this.here = this.model.of(this.chosen ? this.here.units : data.cursor);
    }
    const marked = this.takeMarks(data.marks) || solved;
    this.snippets = data.snippets;
    this.hints.paint();
    this.takeMeasured(data.measured);
    // an older answer must not undo what was picked since
    if (!behind) this.takePicked(data);
    if (data.panel !== this.asked) this.takePanel(data.panel);
    if (moved) {
      this.takeLook(look);
      this.layout(true);
    } else {
      if (marked) this.levels.redraw();
      this.card.paint();
      this.picks.paint();
      this.repaintOver();
    }
    this.finder.paint();
    this.takeFiles(data);
    if (this.unsaid && !this.unheard) this.talk();
  }
  takeLandscape(landscape) {
    if (landscape.version === this.version) return false;
    this.version = landscape.version;
    const names = String(this.model?.names);
    this.model = new Model(landscape);
    this.barcode.first = 0;
    // who walks the strip by keys, or names a state, goes on where they are
    const same = names === String(landscape.names);
    if (!this.hovered.keys || !same) this.hovered = {};
    if (!same) this.finder.forget();
    return true;
  }
  takeMarks(marks) {
    const { model } = this;
    const fresh = JSON.stringify(marks) !== JSON.stringify(this.given);
    this.given = marks;
    this.marks = marks.map((mark) => ({
      ...mark,
      delta: mark.delta === null ? null : mark.delta * model.scale,
      changed: model.of(mark.removed).changed,
    }));
    for (const mark of marks) model.of(mark.removed).hash ||= mark.hash;
    return fresh;
  }
  takeMeasured(measured) {
    this.measured = new Map(Object.entries(measured));
    this.measuredRanks = this.listed([...this.measured.keys()]);
  }
  takePicked({ tray, landscape }) {
    this.details = tray;
    this.tray = tray.map((t) => t.removed.join("-"));
    for (const pick of tray) if (pick.delta !== null) this.model.of(pick.removed).hash ||= pick.hash;
    this.keep = landscape.keep;
    this.remove = landscape.remove;
  }
  takePanel(name) {
    // by link: one panel, alone
    this.asked = name;
    this.alone = name !== null;
    this.levels.turn(VIEWS.includes(name) ? name : "levels");
    const shown = VIEWS.includes(name) ? "levels" : name;
    this.maximised = this.alone ? this.panels.find((panel) => panel.name === shown) : null;
  }
  takeFiles({ seq, files }) {
    if (!files.length || seq === this.saved) return;
    this.saved = seq;
    for (const { text, kind } of files) this.exports.download(text, kind);
  }

  // how the picture is looked at: "density" or what the tree says, the temperature "T10", "spin", "structure",
  // "kinds" and the stretch of the energy axis "low:high" where it is zoomed, joined by "~"
  get look() {
    const { lo, hi, view, zoomed } = this.levels;
    const bound = (delta) => (delta / this.model.scale).toPrecision(5);
    const parts = [];
    if (view === "density") parts.push("density");
    if (view === "tree") parts.push(this.levels.tree.look);
    if (this.barcode.thermometer.chosen) parts.push(`T${this.barcode.thermometer.chosen}`);
    if (this.spin) parts.push("spin");
    if (this.card.tab === "structure") parts.push("structure");
    if (this.matrix.byKind) parts.push("kinds");
    if (zoomed) parts.push(`${bound(lo)}:${bound(hi)}`);
    return parts.join("~");
  }
  takeLook(parts) {
    const [lo, hi] = (parts.find((part) => part.includes(":")) ?? "").split(":").map(Number);
    const tree = parts.find((part) => part.startsWith("tree"));
    if (!this.alone) this.levels.turn(tree ? "tree" : parts.includes("density") ? "density" : "levels");
    if (tree) this.levels.tree.takeLook(tree);
    this.barcode.thermometer.chosen = parts.find((part) => part.startsWith("T"))?.slice(1) ?? null;
    this.spin = parts.includes("spin");
    this.card.tab = parts.includes("structure") ? "structure" : "energy";
    this.matrix.byKind = parts.includes("kinds");
    this.levels.lo = 0;
    this.levels.hi = this.model.top || 1;
    if (hi > lo) this.levels.range(lo * this.model.scale, hi * this.model.scale);
  }
  looked() {
    this.sendIn(LATER);
  }

  // -- what goes to the page -------------------------------------------------------------------
  // One message at a time, said until it is heard: of two that Streamlit has not read yet it keeps the later one
  // alone.
  /** @param {import("./messages.js").Asked[]} asked */
  send(...asked) {
    clearTimeout(this.timer);
    this.timer = null;
    this.asks.push(...asked);
    this.unsaid = true;
    if (!this.unheard) this.talk();
  }
  talk() {
    clearTimeout(this.waiting);
    const busy = atWork();
    this.waiting = setTimeout(() => this.talk(), busy && !this.unheard ? MOMENT : PATIENCE);
    if (busy) return;
    this.unheard ??= this.message();
    this.trigger("commit", this.unheard);
  }
  heard() {
    clearTimeout(this.waiting);
    this.unheard = null;
  }
  /** @returns {import("./messages.js").Commit} */
  message() {
    const { asks } = this;
    this.asks = [];
    this.unsaid = false;
    this.seq = Math.max(this.seq + 1, Date.now()); // of one message alone, whichever lens of this visit says it
    return {
      seq: this.seq,
      cursor: this.chosen ? this.here.units : null,
      look: this.look,
      source: this.model.source,
      asks,
    };
  }
  forget() {
    // the page moved on: what was said or asked for before is void
    this.heard();
    this.unsaid = false;
    this.asks = [];
  }
  sendIn(milliseconds) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), milliseconds);
  }

  // -- actions ---------------------------------------------------------------------------------
  select(k, later = false) {
    if (k >= 0 && k < this.model.count) this.go(this.model.state(k), later);
  }
  go(units, later = false) {
    const { columns } = this.levels;
    const fresh = this.model.of(units);
    this.here = fresh;
    this.chosen = true; // by hand, since the page last said what is selected
    if (fresh.rank !== undefined && this.barcode.follow(fresh.rank)) this.barcode.draw();
    const beyond = fresh.rank === undefined || fresh.changed >= columns;
    if (!this.levels.follow(fresh.delta) && beyond) this.levels.redraw();
    this.card.paint();
    this.picks.showCurrent();
    this.repaintOver();
    this.sendIn(later ? LATER : SOON);
  }
  open(units) {
    // any state; of another M by solving that one
    if (this.model.compares(units)) this.go(units);
    else this.send({ ask: "open", state: units });
  }
  step(by) {
    const { rank, below } = this.here;
    const near = by > 0 ? Math.min(this.model.count - 1, below) : Math.max(0, below - 1);
    this.select(rank !== undefined ? rank + by : near, true);
  }
  nextMinimum(direction) {
    const { minima } = this.model;
    if (this.levels.view === "tree" && this.levels.visible) {
      const beside = this.levels.tree.next(direction);
      if (beside !== undefined) this.select(beside, true);
      return;
    }
    const at = this.here.rank ?? this.here.below - 0.5;
    const found = direction > 0 ? minima.find((k) => k > at) : minima.findLast((k) => k < at);
    if (found !== undefined) this.select(found, true);
  }
  toBarrier() {
    // the state over which the valley of the selected one joins a lower one
    const { shape } = this.model;
    const saddle = shape.saddle[shape.valley[this.here.rank]] ?? -1;
    if (saddle >= 0) this.select(saddle, true);
    else this.say("No barrier to a lower valley is known of this state.");
  }
  toggle(name) {
    const state = name.split("-").map(Number);
    const picked = this.tray.includes(name);
    this.tray = picked ? this.tray.filter((t) => t !== name) : [...this.tray, name];
    this.card.paint();
    this.repaintOver();
    this.send(picked ? { ask: "drop", state } : { ask: "add", state });
  }
  prune() {
    // a bare matrix has no model
    if (this.model.kinds.length) this.send({ ask: "prune", state: this.here.units });
  }
  compare() {
    if (this.tray.length) this.send({ ask: "compare" });
  }
  press(unit) {
    // of the strip
    if (this.finder.draft) this.finder.flip(unit);
    else this.cycle(unit);
  }
  point(blocks, lanes) {
    // by keys, along the strip
    const { block, columns, lane, unitsOf } = this.model;
    const { strip, unit } = this.hovered;
    const within = (k, n) => Math.min(n - 1, Math.max(0, k));
    const at = strip ? block[unit] + blocks : blocks < 0 ? columns - 1 : 0;
    const own = unitsOf[within(at, columns)];
    this.hover({ strip: true, unit: own[within(strip ? lane[unit] + lanes : 0, own.length)], keys: true });
  }
  cycle(unit) {
    // free, stays, goes, free
    const stays = this.keep.includes(unit);
    const goes = this.remove.includes(unit);
    this.keep = this.keep.filter((u) => u !== unit);
    this.remove = this.remove.filter((u) => u !== unit);
    if (stays) this.remove.push(unit);
    else if (!goes) this.keep.push(unit);
    this.repaintOver();
    this.send(stays ? { ask: "remove", unit } : goes ? { ask: "free", unit } : { ask: "keep", unit });
  }
  maximise(panel) {
    if (this.alone) {
      this.send({ ask: "panel", panel: null });
      return;
    }
    this.maximised = this.maximised === panel ? null : panel;
    this.layout(true);
    this.frame.focus({ preventScroll: true });
  }
  showNarrow(panel) {
    this.panels.forEach((p, k) => {
      p.node.classList.toggle("chosen", p === panel);
      this.narrowTabs.children[k].setAttribute("aria-pressed", String(p === panel));
    });
    if (this.root.classList.contains("narrow")) this.layout(true);
  }
  toggleSpin() {
    this.spin = !this.spin;
    this.looked();
    if (this.matrix.visible) this.matrix.draw();
    this.card.paint();
    this.repaintOver();
  }
  heated() {
    // another temperature
    if (this.barcode.visible) this.barcode.draw();
    this.repaintOver();
    this.looked();
  }
  hover(hit) {
    const { hovered } = this;
    const same =
      ["state", "join", "unit", "cell", "strip", "mark"].every((name) => hit[name] === hovered[name]) &&
      String(hit.pair) === String(hovered.pair);
    if (same) return;
    this.hovered = hit;
    this.repaintOver();
  }
  say(text) {
    this.said = text;
    this.status.textContent = text;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      this.said = null;
      this.paintOver();
    }, 2500);
  }

  // -- what panels ask -------------------------------------------------------------------------
  hoveredUnits() {
    const { unit, pair, cell } = this.hovered;
    if (pair) return [...new Set(pair)];
    return [unit ?? cell].filter((u) => u !== undefined);
  }
  listed(names) {
    return names.map((name) => this.model.index.get(name)).filter((k) => k !== undefined);
  }
  trayRanks() {
    return this.listed(this.tray);
  }
  distanceColour(changed) {
    const { ramp } = this.colours;
    return ramp[Math.min(ramp.length - 1, changed)];
  }

  // -- painting --------------------------------------------------------------------------------
  layout(force = false) {
    const width = this.root.clientWidth;
    if (!this.model || !width) return;
    const size = `${width}x${window.devicePixelRatio}`;
    if (!force && size === this.size) return;
    this.size = size;
    const { classList } = this.root;
    classList.toggle("narrow", width < 700);
    classList.toggle("medium", width >= 700 && width < 1000);
    classList.toggle("max", this.maximised !== null);
    classList.toggle("alone", this.alone);
    for (const panel of this.panels) this.labelGrow(panel, panel === this.maximised);
    for (const panel of this.panels) panel.resize();
    this.paint();
  }
  labelGrow({ node, grow, title }, large) {
    const back = this.alone ? "show all panels" : "back to all panels (F, Esc)";
    node.classList.toggle("large", large);
    grow.textContent = large ? "⤡" : "⤢";
    grow.title = large ? back : `maximise ${title.textContent} (F)`;
    grow.setAttribute("aria-label", grow.title);
  }
  paint() {
    if (!this.model) return;
    const [r, g, b] = (getComputedStyle(this.probe).color.match(/\d+/g) || [0, 0, 0]).map(Number);
    this.dark = r + g + b > 382; // light text: dark theme
    this.colours = PALETTE[this.dark ? "dark" : "light"];
    this.root.classList.toggle("dark", this.dark);
    this.barcode.layout();
    if (this.here.rank !== undefined) this.barcode.follow(this.here.rank);
    for (const panel of this.panels) if (panel.visible) panel.draw();
    this.paintOver();
    this.card.paint();
    this.picks.paint();
  }
  repaintOver() {
    // however much happens, overlays are drawn once a frame
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.paintOver();
    });
  }
  paintOver() {
    if (!this.model || !this.colours) return;
    for (const panel of this.panels) if (panel.visible) panel.drawOver();
    this.status.textContent = this.said ?? sentence(this);
  }
}

let lens = null; // the one of this visit: Streamlit may take it off the page and bring it back

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lens");
  lens ??= new Lens(root);
  lens.standIn(root);
  lens.update(data, setTriggerValue);
  return () => {
    if (!root.isConnected && lens.root === root) lens.close();
  };
}
