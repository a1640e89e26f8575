// The help: keys and words.

import { element } from "./dom.js";
import { GLOSSARY } from "./glossary.js";

const KEYS = [
  ["↑ ↓ or K J", "previous, next state"],
  ["← →", "previous, next minimum among the listed states; in the tree the leaf to the left, to the right"],
  ["B", "the state over which its valley joins a lower one: the barrier between the two"],
  ["Home", "ground state, or the lowest that was found"],
  ["A or space", "add to the tray, or take out"],
  ["Enter or M", "measure and compare the tray"],
  ["P", "prune the model to this state"],
  ["+ − 0", "zoom the energy axis in, out, show all of it (Ctrl and the wheel zoom at the pointer)"],
  ["F", "maximise the panel under the pointer"],
  ["/", "find a state by what it removes"],
  ["S", "energies in x (removed) or in spins"],
  ["O", "by branch: couplings in order of depth, or of kind"],
  ["Shift and ← → ↑ ↓", "walk along the block strip and between its lanes"],
  ["L", "where that is: stays, goes, is free again"],
  ["?", "this help"],
  ["Esc", "close"],
  [
    "block strip",
    "by branch it has a lane for attention and one for FFN. A click: the block or branch stays in every " +
      "state (mark below), goes in every state (mark above), " +
      "is free again; while “by hand” is on: it is removed or put back",
  ],
  ["dark corner", "removing this costs far more than its gradient says; hover it"],
  [
    "ring, flag",
    "a state whose loss was measured; a marked state, as other methods' choices and lists from " +
      "elsewhere are",
  ],
];

const list = (rows) =>
  element(
    "dl",
    {},
    ...rows.flatMap(([k, v]) => [element("dt", { textContent: k }), element("dd", { textContent: v })]),
  );

export class Help {
  // Keys and words, over the panels.
  constructor(lens) {
    this.lens = lens;
    this.close = element("button", {
      type: "button",
      textContent: "Close",
      onclick: () => this.toggle(false),
    });
    this.node = element(
      "div",
      { className: "help", hidden: true, tabIndex: -1 },
      element("div", { className: "row" }, element("h2", { textContent: "Keys" }), this.close),
      list(KEYS),
      element("h2", { textContent: "Words" }),
      list(GLOSSARY),
      element("button", {
        type: "button",
        textContent: "Show the first hints again",
        onclick: () => {
          this.lens.hints.again();
          this.toggle(false);
        },
      }),
    );
    this.node.setAttribute("role", "dialog");
    this.node.setAttribute("aria-label", "Keys and words");
    this.node.addEventListener("keydown", (e) => {
      if (e.key === "Escape" || e.key === "?") this.toggle(false);
      e.stopPropagation();
    });
  }
  get open() {
    return !this.node.hidden;
  }
  toggle(open) {
    this.node.hidden = !open;
    if (open) this.close.focus();
    else this.lens.frame.focus();
  }
}
