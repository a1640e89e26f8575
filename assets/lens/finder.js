// A state named by its units, typed or clicked together on the strip.

import { button, element } from "./dom.js";
import { parseUnits } from "./wording.js";

export class Finder {
  // A state named by its units, typed or clicked together on the strip: `draft`, null while nobody does.
  constructor(lens) {
    this.lens = lens;
    this.draft = null;
    this.problem = null;
    this.input = this.buildInput();
    this.byHand = button(
      "by hand",
      "choose by clicking the strip",
      () => (this.draft ? this.end() : this.set(this.lens.here.units)),
      "tab",
    );
    this.found = element("div", { className: "found", hidden: true });
    this.node = element(
      "div",
      { className: "find" },
      element("div", { className: "row" }, this.input, this.byHand),
      this.found,
    );
  }
  buildInput() {
    const input = element("input", {
      type: "text",
      spellcheck: false,
      autocomplete: "off",
    });
    input.addEventListener("keydown", (e) => {
      e.stopPropagation(); // letters are text here
      if (e.key === "Enter" && this.draft) this.take("show");
      if (e.key === "Escape") {
        this.end();
        this.lens.frame.focus();
      }
    });
    input.addEventListener("input", () => {
      const parsed = parseUnits(input.value, this.lens.model);
      this.problem = parsed.problem;
      this.draft = input.value.trim() ? (parsed.units ?? this.draft ?? []) : null;
      this.changed();
    });
    return input;
  }
  changed() {
    this.paint();
    this.lens.repaintOver();
  }
  set(units) {
    this.problem = null;
    this.draft = units;
    this.input.value = this.lens.model.said(units).replaceAll("–", "-");
    this.changed();
  }
  flip(unit) {
    const units = this.draft.includes(unit) ? this.draft.filter((u) => u !== unit) : [...this.draft, unit];
    this.set(units.sort((a, b) => a - b));
  }
  forget() {
    this.draft = null;
    this.problem = null;
    this.input.value = "";
  }
  end() {
    this.forget();
    this.changed();
  }
  get usable() {
    return !this.problem && this.draft.length > 0 && this.draft.length < this.lens.model.blocks;
  }
  words() {
    if (this.problem) return this.problem;
    const { model } = this.lens;
    const n = this.draft.length;
    if (n === 0 || n >= model.blocks) return `Choose 1 to ${model.blocks - 1} ${model.word}s.`;
    return model.compares(this.draft)
      ? model.place(model.of(this.draft))
      : `${n} of ${model.removed} ${model.word}s; opening it shows the landscape of M = ${n}`;
  }
  paint() {
    const { halved, word } = this.lens.model;
    const example = halved ? "3, 7-9, 12a" : "3, 7-9, 20";
    this.input.placeholder = `find ${word}s: ${example}`;
    this.input.setAttribute("aria-label", `Find a state by the ${word}s it removes, for example ${example}`);
    const on = this.draft !== null;
    this.byHand.setAttribute("aria-pressed", String(on));
    this.found.hidden = !on;
    if (!on) return;
    const act = (text, label, how) => {
      const node = button(text, label, () => this.take(how));
      node.disabled = !this.usable;
      return node;
    };
    this.found.replaceChildren(
      element("span", { textContent: this.words() }),
      element(
        "div",
        { className: "actions" },
        act("Show", "show this state (Enter)", "show"),
        act("Mark", "mark this state on the axes", "mark"),
        act("Add", "add this state to the tray", "add"),
      ),
    );
  }
  take(how) {
    if (!this.usable) return;
    const { lens, draft: units } = this;
    const name = units.join("-");
    this.end();
    if (how === "mark") lens.send({ ask: "mark", state: units });
    else if (how === "show") lens.open(units);
    else if (!lens.tray.includes(name)) lens.toggle(name);
    lens.frame.focus({ preventScroll: true });
  }
}
