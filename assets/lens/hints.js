// Sentences for a first visit, each in the panel that it speaks of, until it is dismissed.

import { button, element } from "./dom.js";

const KEPT = "blockscape-dismissed"; // in this browser: the names of the panels whose sentence is gone

const SENTENCES = {
  levels: (m) => `A state removes ${m.asked}; the lower it lies, the less harm is predicted.`,
  tree: () =>
    "Each leaf is a valley's lowest state; two branches join at the energy that every way from one to the other " +
    "must climb.",
  states: (m) =>
    `Each row is a state, the lowest first: its coloured ${m.word}s go. Walk with ↑ ↓ or a click.`,
  tray: (m) =>
    m.kinds.length
      ? "Add to the tray what looks good (A): Compare then measures what it really costs."
      : "Add to the tray what looks good (A): here you see how much the states differ.",
};

const kept = () => {
  try {
    return new Set(JSON.parse(localStorage.getItem(KEPT) ?? "[]"));
  } catch {
    return new Set(); // a browser that keeps nothing, or somebody else's words
  }
};

const keep = (names) => {
  try {
    localStorage.setItem(KEPT, JSON.stringify([...names]));
  } catch {
    // gone for this visit only
  }
};

export class Hints {
  constructor(lens) {
    this.lens = lens;
    this.dismissed = kept();
    const names = Object.keys(SENTENCES);
    this.words = new Map(names.map((name) => [name, element("span")]));
    this.nodes = new Map(names.map((name) => [name, this.hint(name)]));
  }
  hint(name) {
    const away = button("×", `dismiss this hint: ${name}`, () => this.dismiss(name), "drop");
    const node = element("div", { className: "hint" }, this.words.get(name), away);
    node.setAttribute("role", "note");
    return node;
  }
  of(name) {
    return this.nodes.get(name);
  }
  shows(name) {
    return !this.dismissed.has(name);
  }
  paint() {
    for (const [name, node] of this.nodes) {
      node.hidden = !this.shows(name) || !this.fits(name);
      if (this.lens.model) this.words.get(name).textContent = SENTENCES[name](this.lens.model);
    }
  }
  fits(name) {
    // the panel of the levels has one for the tree
    const tree = this.lens.levels.view === "tree";
    return name === "tree" ? tree : name !== "levels" || !tree;
  }
  dismiss(name) {
    this.change(this.dismissed.add(name));
    this.lens.frame.focus({ preventScroll: true });
  }
  again() {
    this.change(new Set());
  }
  change(dismissed) {
    this.dismissed = dismissed;
    keep(dismissed);
    this.paint();
    this.lens.layout(true); // the panel has more room, or less
  }
}
