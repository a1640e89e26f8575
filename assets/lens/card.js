// The card of the selected state: what it removes, its energy, what it saves, what is measured, and its buttons.

import { button, element } from "./dom.js";
import { EXPLAINED } from "./glossary.js";
import { amount, increase, plus, runsOf, signed, significant } from "./wording.js";

const HINTS = "<kbd>↑</kbd><kbd>↓</kbd> state <kbd>←</kbd><kbd>→</kbd> min <kbd>A</kbd> tray ";
const PRUNE = "<kbd>P</kbd> prune "; // what has a model

const share = (part, all) => `−${((100 * part) / all).toFixed(0)} %`;

// one row of the card as nodes; a word that the glossary knows carries its explanation
const described = ([text, value, note]) => {
  const term = element("dt", { textContent: text });
  const about = [...EXPLAINED].find(([word]) => text && text.startsWith(word));
  if (about) {
    term.title = about[1];
    term.className = "explained";
  }
  return [term, element("dd", { textContent: value }), element("dd", { textContent: note, title: note })];
};

const chips = (model, units) => {
  const names = model.stored(units);
  return names.length > 16
    ? element("p", { className: "hash", textContent: model.said(units) })
    : element(
        "div",
        { className: "chips" },
        ...names.map((name) => {
          const title = model.kinds[model.number.get(String(name))] ?? "";
          return element("span", { className: "chip", textContent: name, title });
        }),
      );
};

export class Card {
  // The selected state in numbers, and what can be done with it. `strongest` stands beside the couplings.
  constructor(lens) {
    this.lens = lens;
    this.tab = "energy";
    this.strongest = element("div", { className: "strongest" });
    this.node = element("section", { className: "card" });
    this.node.setAttribute("aria-label", "Selected state");
  }

  // -- rows: [term, value, note] ---------------------------------------------------------------
  energyRows() {
    const { model: m, here, spin } = this.lens;
    const rows = [
      ["energy E", m.show(here.energy), m.unitText],
      ["ΔE", here.delta === null ? "–" : significant(here.delta), this.standing()],
      ...(spin ? this.spinRows() : this.fieldRows()),
      [
        "Pearson to #0",
        isNaN(here.pearson) ? "–" : plus(here.pearson),
        `${here.changed} of ${here.units.length} changed`,
      ],
    ];
    rows.push(...this.valleyRows());
    if (here.rank !== undefined && m.ranks[here.rank])
      rows.push(["rank, 95 %", m.ranks[here.rank].join("–"), `of ${m.ranks.length}, bootstrap`]);
    return rows;
  }
  valleyRows() {
    // where it lies among the minima; of listed states alone that is known
    const { model: m, here } = this.lens;
    if (here.rank === undefined) return [];
    const { shape, minima } = m;
    const i = shape.valley[here.rank];
    if (i < 0) return [["valley", "–", "leads out of the list"]];
    const own = minima[i] === here.rank;
    const rows = [
      own
        ? ["valley", String(shape.basin[i]), `of ${m.count} listed`]
        : ["valley of", `#${minima[i]}`, `${shape.basin[i]} of ${m.count} listed`],
    ];
    if (i === 0) return rows;
    const height = shape.toGround(here.rank);
    const apart = height === Infinity;
    return [
      ...rows,
      apart
        ? ["barrier to #0", `> ${significant(m.top)}`, "not connected in the list"]
        : ["barrier to #0", significant(height), m.exact ? "exact" : "at most"],
    ];
  }
  standing() {
    const { model: m, here } = this.lens;
    if (here.rank === undefined) return here.below === m.count ? "above the list" : "not listed";
    return m.onLevel(here.rank) > 1 ? `×${m.onLevel(here.rank)} on its level` : m.unitText;
  }
  spinRows() {
    const { model: m, here } = this.lens;
    const [fields, coupled, offset] = m.spinParts(here);
    const show = (v) => (v < 0 ? "−" : "") + m.show(Math.abs(v));
    return [
      ["fields Σ hᵢsᵢ", show(fields), m.unitText],
      ["pairs Σ Jᵢⱼsᵢsⱼ", show(coupled), "i < j"],
      ["constant", show(offset), m.unitText],
      ...this.strongestRows("strongest J", 1 / 4),
    ];
  }
  fieldRows() {
    const { model: m, here } = this.lens;
    const pairs = here.energy - here.own;
    return [
      ["own cost Σ Hᵢᵢ", m.show(here.own), m.unitText],
      ["pairs 2 Σ Hᵢⱼ", (pairs < 0 ? "−" : "+") + m.show(Math.abs(pairs)), "i < j"],
      ...this.strongestRows("strongest pairs", 1),
    ];
  }
  strongestRows(name, factor) {
    const { model: m, here, matrix } = this.lens;
    if (matrix.visible) return []; // they stand beside the couplings
    return m
      .strongestPairs(here.units, 2)
      .map(([i, j, v], n) => [
        n ? "" : name,
        (v < 0 ? "−" : "+") + m.show(Math.abs(v) * factor),
        `${m.names[i]}–${m.names[j]}`,
      ]);
  }
  structureRows() {
    const { model: m, here } = this.lens;
    const state = here.units;
    const sum = (values) => state.reduce((total, b) => total + values[b], 0);
    const rows = [];
    if (m.parameters.length) {
      const gone = sum(m.parameters);
      rows.push(["parameters", share(gone, m.total_parameters), `−${amount(gone)}`]);
    }
    const kv = m.kv.reduce((a, b) => a + b, 0);
    if (kv) rows.push(["KV a token", share(sum(m.kv), kv), `−${amount(sum(m.kv))}B`.replace(" B", "B")]);
    const runs = runsOf(state);
    const longest = Math.max(...runs.map(([a, b]) => b - a + 1));
    rows.push(["runs", String(runs.length), `longest ${longest}`]);
    const thirds = [0, 0, 0];
    for (const u of state) thirds[Math.min(2, Math.floor((3 * m.block[u]) / m.columns))] += 1;
    rows.push(["depth", thirds.join("·"), "of each third"]);
    return [...rows, ...this.kindRows(), ...this.nearestRows()];
  }
  kindRows() {
    const { model: m, here } = this.lens;
    if (!m.kinds.length) return [];
    const kinds = new Map();
    for (const b of here.units) kinds.set(m.kinds[b], (kinds.get(m.kinds[b]) || 0) + 1);
    return [...kinds].slice(0, 3).map(([kind, n], i) => [i ? "" : "kinds", String(n), kind]);
  }
  nearestRows() {
    const { model: m, here, tray } = this.lens;
    const others = tray.map((name) => name.split("-").map(Number)).filter((t) => t.join("-") !== here.name);
    if (!others.length) return [];
    const [best, nearest] = others
      .map((t) => [m.correlation(here.units, t), t])
      .reduce((a, b) => (b[0] > a[0] ? b : a));
    const pick = m.index.get(nearest.join("-"));
    return [
      [
        "Pearson to tray",
        isNaN(best) ? "–" : plus(best),
        `nearest ${pick === undefined ? m.said(nearest) : "#" + pick}`,
      ],
    ];
  }

  // -- nodes -----------------------------------------------------------------------------------
  paint() {
    const { lens } = this;
    const { measured, here } = lens;
    const rows = this.tab === "energy" ? this.energyRows() : this.structureRows();
    if (measured.has(here.name)) {
      const found = measured.get(here.name);
      rows.push(["loss change", ...increase(found)]);
      if (found.length > 3) rows.push(["KL to original", found[3].toFixed(4), "nats a token"]);
    }
    const { activeElement } = lens.root.getRootNode();
    const focused = this.node.contains(activeElement) && activeElement.textContent;
    const hints = element("div", { className: "keys" });
    hints.innerHTML = lens.model.kinds.length ? HINTS + PRUNE : HINTS;
    hints.append(button("?", "help", () => lens.help.toggle(true)));
    this.node.replaceChildren(
      this.heading(),
      chips(lens.model, here.units),
      this.tabs(),
      element("dl", {}, ...rows.flatMap(described)),
      this.actions(),
      hints,
    );
    if (focused) this.focusAgain(focused);
    this.paintStrongest();
  }
  focusAgain(text) {
    const buttons = [...this.node.querySelectorAll("button")];
    const same = buttons.find((b) => b.textContent === text);
    (same ?? this.node.querySelector(".primary")).focus({ preventScroll: true });
  }
  heading() {
    const { model: m, here } = this.lens;
    const k = here.rank;
    const badge = k === undefined ? "not listed" : k === 0 ? m.first : m.minimum[k] ? "a minimum" : null;
    return element(
      "div",
      { className: "row" },
      element("h2", { textContent: k === undefined ? "Unlisted state" : `State #${k}` }),
      badge ? element("span", { className: "badge", textContent: badge }) : null,
      element("span", { className: "hash", textContent: here.hash }),
      this.sheetButton(),
    );
  }
  sheetButton() {
    // on a phone the card is a sheet at the bottom: closed it shows the state and what can be done with it
    const open = this.node.classList.contains("open");
    const turn = () => {
      this.node.classList.toggle("open");
      this.paint();
    };
    const text = open ? "less" : "more";
    const node = button(text, `${text} of this state`, turn, "sheet tab");
    node.setAttribute("aria-expanded", String(open));
    return node;
  }
  tabs() {
    const { lens } = this;
    const tab = (name, textContent) => {
      const onclick = () => {
        this.tab = name;
        this.paint();
        lens.looked();
      };
      const node = element("button", { type: "button", className: "tab", textContent, onclick });
      node.setAttribute("aria-pressed", String(this.tab === name));
      return node;
    };
    const spin = button(
      lens.spin ? "spins" : "x = 1",
      "energies in x (1: removed) or in spins (S)",
      () => lens.toggleSpin(),
      "tab",
    );
    spin.setAttribute("aria-pressed", String(lens.spin));
    return element(
      "div",
      { className: "tabs" },
      tab("energy", "Energy"),
      tab("structure", "Structure"),
      this.tab === "energy" ? spin : null,
    );
  }
  actions() {
    const { lens } = this;
    const { name } = lens.here;
    const add = element("button", {
      type: "button",
      className: "primary",
      textContent: lens.tray.includes(name) ? "Take out" : "Add to tray",
      onclick: () => lens.toggle(name),
    });
    return element(
      "div",
      { className: "actions" },
      add,
      lens.model.kinds.length ? button("Prune", "prune the model to this state", () => lens.prune()) : null,
      button("↑", "previous state", () => lens.step(-1)),
      button("↓", "next state", () => lens.step(1)),
    );
  }
  paintStrongest() {
    const { model: m, here, spin, colours, root } = this.lens;
    const title = element("span", {
      textContent: spin ? "strongest Jᵢⱼ in state" : "strongest 2Hᵢⱼ in state",
    });
    const lines = m.strongestPairs(here.units).map(([i, j, v]) => {
      const line = element("div", {
        textContent: `${m.names[i]}–${m.names[j]} ${signed((spin ? v / 4 : v) * m.scale, 2)}`,
      });
      if (colours) line.style.color = `rgb(${(v > 0 ? colours.positive : colours.negative).join(",")})`;
      return line;
    });
    const titled = lines.length && !root.classList.contains("narrow");
    this.strongest.replaceChildren(...(titled ? [title] : []), ...lines);
  }
}
