// The tray: picked states side by side, and the marked ones below.

import { button, element } from "./dom.js";
import { increase, signed, significant } from "./wording.js";

const EMPTY = "Pick states with A: they stay here side by side, with their Pearson diversity to each other.";

export class Tray {
  // The picked states side by side, and below them the marked ones.
  constructor(lens) {
    this.lens = lens;
    this.node = element("section", { className: "tray" });
    this.node.setAttribute("aria-label", "Tray");
  }
  showCurrent() {
    for (const p of this.node.querySelectorAll(".pick"))
      p.classList.toggle("current", p.dataset.name === this.lens.here.name);
  }
  paint() {
    const { lens } = this;
    const picks = lens.details.map((d) => this.picked(d));
    const marks = lens.marks.map((mark) => this.marked(mark));
    const list = element(
      "div",
      { className: "list", tabIndex: 0 },
      lens.hints.of("tray"), // in what scrolls: the buttons keep their place, however much the card needs
      ...(picks.length || lens.hints.shows("tray")
        ? picks
        : [element("p", { className: "empty", textContent: EMPTY })]),
      ...(marks.length ? [element("h3", { textContent: "Marked states" }), ...marks] : []),
    );
    list.setAttribute("role", "group");
    list.setAttribute("aria-label", "Picked and marked states");
    this.node.replaceChildren(this.heading(), list, this.actions());
  }
  heading() {
    const spread = this.lens.details.map((d) => d.diversity).filter((d) => d !== null);
    return element(
      "div",
      { className: "row" },
      element("h2", { textContent: "Tray" }),
      spread.length
        ? element("small", {
            textContent: `smallest diversity ${Math.min(...spread).toFixed(2)}`,
            title: "Pearson diversity: 1 − the largest coefficient to another picked state",
          })
        : null,
    );
  }
  picked(d) {
    const { lens } = this;
    const name = d.removed.join("-");
    const called = d.rank === null ? d.hash : d.rank;
    const about = `removes ${lens.model.said(d.removed)}${d.reason ? `; ${d.reason}` : ""}`;
    const pick = element(
      "button",
      { type: "button", className: "pick", onclick: () => lens.open(d.removed) },
      this.title(d),
      this.bits(d),
      element("small", { textContent: this.worth(d, name) }),
      d.reason ? element("small", { className: "reason", textContent: d.reason }) : null,
    );
    pick.dataset.name = name;
    pick.classList.toggle("current", name === lens.here.name);
    pick.title = about;
    pick.setAttribute("aria-label", `State ${called}, ${about}`);
    const drop = button("×", `take state ${called} out of the tray`, () => lens.toggle(name), "drop");
    return element("div", { className: "picked" }, pick, drop);
  }
  title(d) {
    const energy =
      d.delta === null ? `M = ${d.removed.length}` : `ΔE ${significant(d.delta * this.lens.model.scale)}`;
    return element(
      "div",
      { className: "row" },
      element("b", { textContent: d.rank === null ? d.hash : `#${d.rank}` }),
      element("span", { textContent: energy }),
    );
  }
  bits(d) {
    const on = new Set(d.removed);
    const bit = (u) => element("i", { className: on.has(u) ? "on" : "" });
    const { halved, unitsOf } = this.lens.model;
    const column = (own) => (halved ? element("span", {}, ...own.map(bit)) : bit(own[0]));
    return element("div", { className: halved ? "mini lanes" : "mini" }, ...unitsOf.map(column));
  }
  worth(d, name) {
    const { measured } = this.lens;
    return [
      measured.has(name) ? `loss ${increase(measured.get(name)).join(" ")}` : null,
      d.pearson === null ? null : `Pearson ${d.pearson.toFixed(2)}`,
      d.diversity === null ? null : `diversity ${d.diversity.toFixed(2)}`,
    ]
      .filter(Boolean)
      .join(" · ");
  }
  marked(mark) {
    const { lens } = this;
    const listed = mark.rank !== null ? `#${mark.rank}` : `ΔE ${signed(mark.delta)}`;
    const row = element(
      "button",
      { type: "button", className: "marked", onclick: () => lens.open(mark.removed) },
      element("b", { textContent: mark.label }),
      element("span", { textContent: mark.delta === null ? `M = ${mark.removed.length}` : listed }),
    );
    const removes = `removes ${lens.model.said(mark.removed)}`;
    row.title = `${removes}; ${mark.reason}`;
    row.setAttribute("aria-label", `marked: ${mark.label}, ${mark.reason}, ${removes}`);
    const unmark = () => lens.send({ ask: "unmark", state: mark.removed });
    const drop = mark.own ? button("×", `take the mark ${mark.label} away`, unmark, "drop") : null;
    return element("div", { className: "picked" }, row, drop);
  }
  actions() {
    const { lens } = this;
    const n = lens.details.length;
    const about = `measure and compare ${n} picked states (Enter)`;
    return element(
      "div",
      { className: "actions" },
      n ? button(`Compare ${n}`, about, () => lens.compare(), "primary") : null,
      button(
        "Pick for me",
        "fill the tray with low states that differ from each other, each with its reason",
        () => lens.send({ ask: "pick" }),
      ),
      button("One per basin", "add the lowest state of each of the most persistent valleys to the tray", () =>
        lens.send({ ask: "basins" }),
      ),
    );
  }
}
