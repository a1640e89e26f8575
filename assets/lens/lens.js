// words for people from physics and from machine learning: shown in the help, and where the pointer rests on them
const GLOSSARY = [
  ["state", "one way to remove M blocks, a bit string with M ones; for ML people: one pruned model"],
  [
    "energy E",
    "what the couplings predict the removal to cost, xᵀHx; lower is better. It is a proxy of the loss increase, in the units named beside the couplings",
  ],
  ["ΔE", "energy above the ground state"],
  ["ground state", "the state of lowest energy; for ML people: the predicted best choice of M blocks"],
  [
    "gap",
    "energy from the ground level to the next one: below the noise of the sample, the choice between them is open",
  ],
  [
    "minimum",
    "a state that no single swap (one block back, another out) lowers: a local optimum, the bottom of a valley",
  ],
  [
    "degenerate level",
    "states whose energies are equal within the tolerance; a line through them carries their number",
  ],
  [
    "own cost",
    "Σ Hᵢᵢ over the removed blocks: what removing each alone is predicted to cost, the fields of physics",
  ],
  [
    "pairs",
    "2 Σ Hᵢⱼ over pairs of removed blocks: what removing both costs more (+) or less (−) than each alone, the interactions",
  ],
  [
    "spin view",
    "s = +1 removed, −1 kept: E = Σ hᵢsᵢ + Σ Jᵢⱼsᵢsⱼ + const, with J = H/2 and hᵢ half the row sum",
  ],
  [
    "Pearson",
    "correlation of two bit strings: +1 the same choice, 0 as alike as chance, the overlap of spin glasses",
  ],
  [
    "rank, 95 %",
    "where a state would stand among the lowest had other samples been drawn (bootstrap of the calibration texts)",
  ],
  ["depth", "removed blocks in the first, middle and last third of the model"],
  ["runs", "neighbouring removed blocks: a long run cuts one hole, many runs thin the model out"],
];
const EXPLAINED = new Map(GLOSSARY);

class Lens {
  constructor(root) {
    this.root = root;
    Object.assign(this, {
      hovered: {},
      seq: 0,
      tray: [],
      keep: [],
      remove: [],
      details: [],
      marks: [],
      measured: new Map(),
      measuredRanks: [],
      draft: null,
      spin: false,
      cardTab: "energy",
      maximised: null,
      alone: false,
    });
    this.levels = new Landscape(this, "levels", "Landscape");
    this.barcode = new Barcode(this, "states", "States × blocks");
    this.matrix = new Matrix(this, "matrix", "Couplings Hᵢⱼ");
    this.arcs = new Arcs(this, "arcs", "Interaction graph");
    this.panels = [this.levels, this.barcode, this.matrix, this.arcs];
    this.active = this.levels;
    this.strongest = element("div", { className: "strongest" });
    this.matrix.plot.append(this.strongest);
    this.card = element("section", { className: "card" });
    this.card.setAttribute("aria-label", "Selected state");
    this.trayNode = element("section", { className: "tray" });
    this.trayNode.setAttribute("aria-label", "Tray");
    this.status = element("div", { className: "status" });
    this.status.setAttribute("role", "status");
    this.status.setAttribute("aria-live", "polite");
    this.exports = this.buildExports();
    this.help = this.buildHelp();
    this.narrowTabs = element(
      "div",
      { className: "narrow-tabs" },
      ...this.panels.map((panel) =>
        element("button", {
          type: "button",
          className: "tab",
          textContent: { levels: "Landscape", states: "States", matrix: "Couplings", arcs: "Graph" }[
            panel.name
          ],
          onclick: () => this.showNarrow(panel),
        }),
      ),
    );
    this.frame = element(
      "div",
      { className: "frame", tabIndex: 0 },
      this.narrowTabs,
      this.levels.node,
      this.barcode.node,
      element("div", { className: "side" }, this.card, this.buildFind(), this.trayNode),
      this.matrix.node,
      this.arcs.node,
      element("div", { className: "foot" }, this.status, this.exports),
    );
    this.frame.setAttribute("role", "group");
    this.frame.setAttribute(
      "aria-label",
      "Energy landscape. Up and down walk the states, left and right the minima, A adds to the tray, Enter compares, P prunes, question mark shows help.",
    );
    this.frame.addEventListener("keydown", (e) => this.key(e));
    this.everywhere = (e) => {
      if (document.activeElement === document.body && root.isConnected) this.key(e);
    }; // nothing has the focus: the landscape has the keys
    document.addEventListener("keydown", this.everywhere);
    this.probe = element("i", { className: "probe" }); // its colour changes with the theme
    this.probe.addEventListener("transitionend", () => this.paint());
    root.replaceChildren(this.frame, this.help, this.probe);
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(root);
    this.resized = () => this.layout(this.maximised !== null);
    window.addEventListener("resize", this.resized);
    this.showNarrow(this.barcode);
  }

  buildHelp() {
    const keys = [
      ["↑ ↓ or K J", "previous, next state"],
      ["← →", "previous, next minimum among the listed states"],
      ["Home", "ground state, or the lowest that was found"],
      ["A or space", "add to the tray, or take out"],
      ["Enter or M", "measure and compare the tray"],
      ["P", "prune the model to this state"],
      ["+ − 0", "zoom the energy axis in, out, show all of it (Ctrl and the wheel zoom at the pointer)"],
      ["F", "maximise the panel under the pointer"],
      ["/", "find a state by its blocks"],
      ["S", "energies in x (removed) or in spins"],
      ["?", "this help"],
      ["Esc", "close"],
      [
        "block strip",
        "a click: the block stays in every state (mark below), goes in every state (mark above), is free again; while “by hand” is on: it is removed or put back",
      ],
      ["dark corner", "removing this block costs far more than its gradient says; hover it"],
      [
        "ring, flag",
        "a state whose loss was measured; a marked state, as other methods' choices and lists from elsewhere are",
      ],
    ];
    const list = (rows) =>
      element(
        "dl",
        {},
        ...rows.flatMap(([k, v]) => [element("dt", { textContent: k }), element("dd", { textContent: v })]),
      );
    const help = element(
      "div",
      { className: "help", hidden: true, tabIndex: -1 },
      element(
        "div",
        { className: "row" },
        element("h2", { textContent: "Keys" }),
        element("button", { type: "button", textContent: "Close", onclick: () => this.toggleHelp(false) }),
      ),
      list(keys),
      element("h2", { textContent: "Words" }),
      list(GLOSSARY),
    );
    help.setAttribute("role", "dialog");
    help.setAttribute("aria-label", "Keys and words");
    help.addEventListener("keydown", (e) => {
      if (e.key === "Escape" || e.key === "?") this.toggleHelp(false);
      e.stopPropagation();
    });
    return help;
  }
  toggleHelp(open) {
    this.help.hidden = !open;
    if (open) this.help.querySelector("button").focus();
    else this.frame.focus();
  }

  buildFind() {
    this.findInput = element("input", {
      type: "text",
      placeholder: "find blocks: 3, 7-9, 20",
      spellcheck: false,
      autocomplete: "off",
    });
    this.findInput.setAttribute(
      "aria-label",
      "Find a state by the blocks it removes, for example 3, 7-9, 20",
    );
    this.findInput.addEventListener("keydown", (e) => {
      e.stopPropagation(); // letters are text here
      if (e.key === "Enter" && this.draft) this.takeDraft("show");
      if (e.key === "Escape") {
        this.endDraft();
        this.frame.focus();
      }
    });
    this.findInput.addEventListener("input", () => {
      const parsed = parseBlocks(this.findInput.value, this.model.blocks);
      this.problem = parsed.problem;
      this.draft = this.findInput.value.trim() ? (parsed.blocks ?? this.draft ?? []) : null;
      this.paintFind();
      this.repaintOver();
    });
    this.byHand = button(
      "by hand",
      "choose blocks by clicking the strip",
      () => (this.draft ? this.endDraft() : this.setDraft(this.here.blocks)),
      "tab",
    );
    this.found = element("div", { className: "found", hidden: true });
    return element(
      "div",
      { className: "find" },
      element("div", { className: "row" }, this.findInput, this.byHand),
      this.found,
    );
  }
  setDraft(blocks) {
    this.problem = null;
    this.draft = blocks;
    this.findInput.value = ranges(blocks).replaceAll("–", "-");
    this.paintFind();
    this.repaintOver();
  }
  endDraft() {
    this.draft = null;
    this.problem = null;
    this.findInput.value = "";
    this.paintFind();
    this.repaintOver();
  }
  draftWords() {
    if (this.problem) return this.problem;
    const n = this.draft.length;
    const { removed, blocks } = this.model;
    if (n === 0 || n >= blocks) return `Choose 1 to ${blocks - 1} blocks.`;
    return n === removed
      ? this.model.place(this.model.of(this.draft))
      : `${n} of ${removed} blocks; opening it shows the landscape of M = ${n}`;
  }
  paintFind() {
    const on = this.draft !== null;
    const usable = on && !this.problem && this.draft.length > 0 && this.draft.length < this.model.blocks;
    this.byHand.setAttribute("aria-pressed", String(on));
    this.found.hidden = !on;
    if (!on) return;
    const act = (text, label, how) =>
      Object.assign(
        button(text, label, () => this.takeDraft(how)),
        { disabled: !usable },
      );
    this.found.replaceChildren(
      element("span", { textContent: this.draftWords() }),
      element(
        "div",
        { className: "actions" },
        act("Show", "show this state (Enter)", "show"),
        act("Mark", "mark this state on the axes", "mark"),
        act("Add", "add this state to the tray", "add"),
      ),
    );
  }
  takeDraft(how) {
    if (this.problem || !this.draft.length || this.draft.length >= this.model.blocks) return;
    const blocks = this.draft;
    const name = blocks.join("-");
    this.endDraft();
    if (how === "add") {
      if (!this.tray.includes(name)) this.toggle(name);
    } else if (how === "mark") this.send({ ask: "mark", state: blocks });
    else this.open(blocks);
    this.frame.focus({ preventScroll: true });
  }

  buildExports() {
    const link = (text, label, act) => button(text, label, act);
    this.copyPython = link("Python", "copy the Python that makes this view", () =>
      this.copy(this.snippets.python, "Python"),
    );
    this.copyCommand = link("CLI", "copy the command line that makes this view", () =>
      this.copy(this.snippets.cli, "The command line"),
    );
    this.report = link("Report", "download a report of this view as one HTML file", () =>
      this.send({ ask: "file", kind: "html" }),
    );
    const node = element(
      "div",
      { className: "exports" },
      link("Copy link", "copy a link to this view", () => this.copy(this.link(), "The link")),
      this.copyPython,
      this.copyCommand,
      link("CSV", "download the states, or the maximised couplings, as CSV", () => this.csv()),
      link("JSON", "download the listed states as JSON, with where they come from", () =>
        this.send({ ask: "file", kind: "json" }),
      ),
      link("SVG", "download the figure as SVG", () => this.download(this.svg(), "image/svg+xml", "svg")),
      link("PNG", "download the figure as PNG", () => this.png()),
      this.report,
    );
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", "Copy and download");
    return node;
  }

  // -- data in -------------------------------------------------------------------------------
  update(data, trigger) {
    this.trigger = trigger;
    const solved = data.landscape.version !== this.version;
    if (solved) {
      this.version = data.landscape.version;
      this.model = new Model(data.landscape);
      this.barcode.first = 0;
      this.hovered = {};
      this.draft = null;
    }
    const moved = solved || data.seq > this.seq; // solved anew, or the page moved it: Back, or a link
    if (moved) {
      this.here = this.model.of(data.cursor);
      this.chosen = false;
    }
    const marked = solved || JSON.stringify(data.marks) !== JSON.stringify(this.given);
    this.given = data.marks;
    this.marks = data.marks.map((mark) => ({
      ...mark,
      delta: mark.delta === null ? null : mark.delta * this.model.scale,
      changed: this.model.of(mark.removed).changed,
    }));
    for (const mark of data.marks) this.model.of(mark.removed).hash ||= mark.hash;
    this.snippets = data.snippets;
    this.measured = new Map(Object.entries(data.measured)); // blocks -> [loss increase, standard error, items]
    this.measuredRanks = [...this.measured.keys()]
      .map((name) => this.model.index.get(name))
      .filter((k) => k !== undefined);
    if (data.seq >= this.seq) {
      // an older answer must not undo what was picked since
      this.seq = data.seq;
      this.details = data.tray;
      this.tray = data.tray.map((t) => t.removed.join("-"));
      for (const pick of data.tray) if (pick.delta !== null) this.model.of(pick.removed).hash ||= pick.hash;
      this.keep = data.landscape.keep;
      this.remove = data.landscape.remove;
    }
    if (data.panel !== this.asked) {
      // by link: one panel, alone
      this.asked = data.panel;
      this.alone = data.panel !== null;
      this.levels.view = data.panel === "density" ? "density" : "levels";
      this.maximised = this.alone
        ? this.panels.find((panel) => panel.name === (data.panel === "density" ? "levels" : data.panel))
        : null;
    }
    if (moved) this.takeLook(data.look);
    if (moved) this.layout(true);
    else {
      if (marked) this.levels.redraw();
      this.paintCard();
      this.paintTray();
      this.repaintOver();
    }
    this.paintFind();
    if (data.file && data.file.token !== this.saved) {
      this.saved = data.file.token;
      this.download(
        data.file.text,
        { csv: "text/csv", json: "application/json", html: "text/html" }[data.file.kind],
        data.file.kind,
      );
    }
  }

  // how the picture is looked at: "density", "spin", "structure" and the stretch of the energy axis "low:high" where it is zoomed, joined by "~"
  get look() {
    const { levels, model } = this;
    return [
      levels.view === "density" ? "density" : "",
      this.spin ? "spin" : "",
      this.cardTab === "structure" ? "structure" : "",
      levels.zoomed
        ? `${(levels.lo / model.scale).toPrecision(5)}:${(levels.hi / model.scale).toPrecision(5)}`
        : "",
    ]
      .filter(Boolean)
      .join("~");
  }
  takeLook(text) {
    const parts = text.split("~");
    const [lo, hi] = (parts.find((part) => part.includes(":")) ?? "").split(":").map(Number);
    if (!this.alone) this.levels.view = parts.includes("density") ? "density" : "levels";
    this.spin = parts.includes("spin");
    this.cardTab = parts.includes("structure") ? "structure" : "energy";
    Object.assign(this.levels, { lo: 0, hi: this.model.top || 1 });
    if (hi > lo) this.levels.range(lo * this.model.scale, hi * this.model.scale);
  }
  looked() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), 500);
  }

  // -- actions -------------------------------------------------------------------------------
  select(k, later = false) {
    if (k >= 0 && k < this.model.count) this.go(this.model.state(k), later);
  }
  go(blocks, later = false) {
    const { columns } = this.levels;
    const fresh = this.model.of(blocks);
    this.here = fresh;
    this.chosen = true; // by hand, since the page last said what is selected
    if (fresh.rank !== undefined && this.barcode.follow(fresh.rank)) this.barcode.draw();
    if (!this.levels.follow(fresh.delta) && (fresh.rank === undefined || fresh.changed >= columns))
      this.levels.redraw();
    this.paintCard();
    this.paintTray(true);
    this.repaintOver();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.send(), later ? 500 : 150);
  }
  open(blocks) {
    // any state; of another M by solving that one
    if (blocks.length === this.model.removed) this.go(blocks);
    else this.send({ ask: "open", state: blocks });
  }
  step(by) {
    const { rank, below } = this.here;
    this.select(
      rank !== undefined
        ? rank + by
        : by > 0
          ? Math.min(this.model.count - 1, below)
          : Math.max(0, below - 1),
      true,
    );
  }
  send(more = {}) {
    clearTimeout(this.timer);
    this.seq += 1;
    this.trigger("commit", {
      seq: this.seq,
      cursor: this.chosen ? this.here.blocks : null,
      tray: this.tray.map((s) => s.split("-").map(Number)),
      keep: this.keep,
      remove: this.remove,
      look: this.look,
      locked: false,
      source: this.model.source,
      ...more,
    });
  }
  toggle(name) {
    this.tray = this.tray.includes(name) ? this.tray.filter((t) => t !== name) : [...this.tray, name];
    this.paintCard();
    this.repaintOver();
    this.send();
  }
  prune() {
    if (this.model.kinds.length) this.send({ ask: "prune", state: this.here.blocks });
  } // a bare matrix has no model
  compare() {
    if (this.tray.length) this.send({ ask: "compare" });
  }
  press(block) {
    // a block of the strip
    if (this.draft)
      this.setDraft(
        (this.draft.includes(block) ? this.draft.filter((b) => b !== block) : [...this.draft, block]).sort(
          (a, b) => a - b,
        ),
      );
    else this.cycle(block);
  }
  cycle(block) {
    // free, stays, goes, free
    const stays = this.keep.includes(block);
    const goes = this.remove.includes(block);
    this.keep = this.keep.filter((b) => b !== block);
    this.remove = this.remove.filter((b) => b !== block);
    if (stays) this.remove.push(block);
    else if (!goes) this.keep.push(block);
    this.repaintOver();
    this.send({ locked: true });
  }
  nextMinimum(direction) {
    const at = this.here.rank ?? this.here.below - 0.5;
    const found =
      direction > 0 ? this.model.minima.find((k) => k > at) : this.model.minima.findLast((k) => k < at);
    if (found !== undefined) this.select(found, true);
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
    this.narrowPanel = panel;
    this.panels.forEach((p, k) => {
      p.node.classList.toggle("chosen", p === panel);
      this.narrowTabs.children[k].setAttribute("aria-pressed", String(p === panel));
    });
    if (this.root.classList.contains("narrow")) this.layout(true);
  }
  toggleSpin() {
    this.spin = !this.spin;
    this.looked();
    this.matrix.visible && this.matrix.draw();
    this.paintCard();
    this.repaintOver();
  }
  key(e) {
    if (!this.model || e.ctrlKey || e.metaKey || e.altKey) return;
    const inside = e.target !== this.frame && this.root.contains(e.composedPath()[0]); // space and Enter press a focused button
    if (inside && (e.key === " " || e.key === "Enter")) return;
    const step = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, J: 1, K: -1 }[e.key];
    const name = e.key.length === 1 ? e.key.toLowerCase() : e.key;
    if (step) this.step(step);
    else if (e.key === "ArrowRight" || e.key === "ArrowLeft")
      this.nextMinimum(e.key === "ArrowRight" ? 1 : -1);
    else if (e.key === "Home") this.select(0, true);
    else if (name === "a" || e.key === " ") this.toggle(this.here.name);
    else if (name === "p") this.prune();
    else if (name === "m" || e.key === "Enter") this.compare();
    else if (name === "f") this.maximise(this.maximised ?? this.active);
    else if (name === "s") this.toggleSpin();
    else if (e.key === "/") this.findInput.focus();
    else if (e.key === "+" || e.key === "=") this.levels.zoom(0.5);
    else if (e.key === "-" || e.key === "−") this.levels.zoom(2);
    else if (e.key === "0") this.levels.reset();
    else if (e.key === "?") this.toggleHelp(this.help.hidden);
    else if (e.key === "Escape") {
      if (!this.help.hidden) this.toggleHelp(false);
      else if (this.draft) this.endDraft();
      else if (this.maximised) this.maximise(this.maximised);
    } else return;
    e.preventDefault();
    e.stopPropagation();
  }
  hover(hit) {
    const same =
      hit.state === this.hovered.state &&
      hit.block === this.hovered.block &&
      hit.cell === this.hovered.cell &&
      hit.strip === this.hovered.strip &&
      hit.mark === this.hovered.mark &&
      String(hit.pair) === String(this.hovered.pair);
    if (same) return;
    this.hovered = hit;
    this.repaintOver();
  }

  // -- what leaves ---------------------------------------------------------------------------
  say(sentence) {
    this.said = sentence;
    this.status.textContent = sentence;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => {
      this.said = null;
      this.paintOver();
    }, 2500);
  }
  async copy(text, what) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // not a secure context
      const area = element("textarea", { value: text });
      this.root.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    this.say(`${what} was copied.`);
  }
  link() {
    const url = new URL(location.href);
    url.searchParams.set("cur", this.here.name);
    for (const [name, value] of [
      ["tray", this.tray.join("_")],
      ["look", this.look],
    ])
      if (value) url.searchParams.set(name, value);
      else url.searchParams.delete(name);
    if (this.maximised)
      url.searchParams.set("panel", this.maximised === this.levels ? this.levels.view : this.maximised.name);
    return url.href;
  }
  save(blob, ending) {
    const url = URL.createObjectURL(blob);
    const name =
      `blockscape-${this.model.title}-M${this.model.removed}${this.maximised ? "-" + this.maximised.name : ""}`.replace(
        /[^\w.-]+/g,
        "-",
      );
    element("a", { href: url, download: `${name}.${ending}` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
    this.say(`${name}.${ending} was saved.`);
  }
  download(text, type, ending) {
    this.save(new Blob([text], { type }), ending);
  }
  csv() {
    const { model: m } = this;
    const lines = (rows) =>
      this.download(rows.map((row) => row.join(",")).join("\n") + "\n", "text/csv", "csv");
    const blocks = Array.from({ length: m.blocks }, (_, i) => i);
    if (this.maximised === this.matrix)
      lines([["block", ...blocks], ...blocks.map((i) => [i, ...blocks.map((j) => m.h(i, j))])]);
    else if (this.maximised === this.arcs) lines([["block_i", "block_j", "H_ij"], ...m.edges]);
    else this.send({ ask: "file", kind: "csv" });
  }
  svg(panels = this.panels.filter((panel) => panel.visible)) {
    const { colours } = this;
    const boxes = panels.map((panel) => panel.node.getBoundingClientRect());
    const left = Math.min(...boxes.map((b) => b.left)) - 8;
    const top = Math.min(...boxes.map((b) => b.top)) - 8;
    const width = Math.ceil(Math.max(...boxes.map((b) => b.right)) - left + 8);
    const height = Math.ceil(Math.max(...boxes.map((b) => b.bottom)) - top + 8);
    const inner = panels.map((panel) => {
      const plot = panel.plot.getBoundingClientRect();
      const head = panel.node.getBoundingClientRect();
      return (
        `<text x="${short(head.left - left)}" y="${short(head.top - top + 14)}" fill="${colours.text}" style="font:600 14px system-ui, sans-serif">${escaped(panel.title.textContent)}</text>` +
        `<g transform="translate(${short(plot.left - left)} ${short(plot.top - top)})">${panel.svg()}</g>`
      );
    });
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img"><title>${escaped(this.model.title)}, M = ${this.model.removed}. ${escaped(this.sentence())}</title><rect width="100%" height="100%" fill="${colours.ground}"/>${inner.join("\n")}</svg>`;
  }
  async png() {
    const image = new Image();
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(this.svg());
    await image.decode();
    const canvas = element("canvas", { width: 2 * image.width, height: 2 * image.height });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => this.save(blob, "png"), "image/png");
  }

  // -- what panels ask -----------------------------------------------------------------------
  hoveredBlocks() {
    const { block, pair, cell } = this.hovered;
    return pair ? [...new Set(pair)] : block !== undefined ? [block] : cell !== undefined ? [cell] : [];
  }
  trayRanks() {
    return this.tray.map((name) => this.model.index.get(name)).filter((k) => k !== undefined);
  }
  distanceColour(changed) {
    const { ramp } = this.colours;
    return ramp[Math.min(ramp.length - 1, changed)];
  }

  // -- painting ------------------------------------------------------------------------------
  layout(force = false) {
    if (!this.model || !this.root.clientWidth) return;
    const width = this.root.clientWidth;
    const size = `${width}x${window.devicePixelRatio}`;
    if (!force && size === this.size) return;
    this.size = size;
    const { classList } = this.root;
    const panel = this.maximised;
    classList.toggle("narrow", width < 700);
    classList.toggle("medium", width >= 700 && width < 1000);
    classList.toggle("max", panel !== null);
    classList.toggle("alone", this.alone);
    for (const p of this.panels) {
      p.node.classList.toggle("large", p === panel);
      p.grow.textContent = p === panel ? "⤡" : "⤢";
      p.grow.title =
        p === panel
          ? this.alone
            ? "show all panels"
            : "back to all panels (F, Esc)"
          : `maximise ${p.title.textContent} (F)`;
      p.grow.setAttribute("aria-label", p.grow.title);
    }
    for (const p of this.panels) p.resize();
    this.paint();
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
    this.paintCard();
    this.paintTray();
  }
  repaintOver() {
    if (this.pending) return;
    this.pending = requestAnimationFrame(() => {
      this.pending = 0;
      this.paintOver();
    });
  }
  paintOver() {
    if (!this.model || !this.colours) return;
    for (const panel of this.panels) if (panel.visible) panel.drawOver();
    this.status.textContent = this.said ?? this.sentence();
  }
  sentence() {
    const { model: m, hovered } = this;
    const unit = m.unitText;
    if (hovered.pair) {
      const [i, j] = hovered.pair;
      const v = m.h(i, j);
      if (i === j) return `Block ${i}: own cost H = ${m.show(v)}${unit}.`;
      return `Blocks ${i} and ${j}: ${this.spin ? `J = ${m.show(v / 2)}${unit}, ` : ""}H = ${m.show(v)}${unit}; removing both ${v > 0 ? "costs" : "saves"} ${m.show(Math.abs(2 * v))}${unit} ${v > 0 ? "more " : ""}than each alone.`;
    }
    if (hovered.block !== undefined) return this.blockSentence(hovered.block, hovered.strip);
    if (hovered.mark !== undefined) {
      const mark = this.marks[hovered.mark];
      return `${mark.label}: ${mark.reason}. It removes ${ranges(mark.removed)}; ${m.place(m.of(mark.removed))}.`;
    }
    if (this.draft && hovered.state === undefined)
      return `By hand: ${this.draft.length ? `removes ${ranges(this.draft)}; ` : ""}${this.draftWords()}`.replace(
        /\.?$/,
        ".",
      );
    const state = hovered.state === undefined ? this.here : m.of(m.state(hovered.state));
    const k = state.rank;
    if (k === undefined) return `This state removes ${ranges(state.blocks)}; ${m.place(state)}.`;
    const kind =
      k === 0 ? `the ${m.first}` : m.minimum[k] ? "a minimum: no single swap lowers it" : "not a minimum";
    const level = m.onLevel(k) > 1 ? `; one of ${m.onLevel(k)} states on its level` : "";
    const slice = hovered.slice ? `; the lowest of ${hovered.slice} in this slice` : "";
    return `State ${k} removes ${ranges(state.blocks)}; energy ${k === 0 ? m.show(m.energy[0]) + unit : significant(m.delta(k)) + unit + ` above the ${m.first}`}; ${kind}${level}${slice}.`;
  }
  blockSentence(block, strip) {
    const { model: m } = this;
    const share = m.frequency[block];
    const percent = Math.round(100 * share);
    const often =
      share === 1
        ? "in every listed state"
        : share === 0
          ? "in no listed state"
          : percent === 100
            ? "in nearly every listed state"
            : percent === 0
              ? "in hardly any listed state"
              : `in ${percent} % of the listed states`;
    const rule = this.keep.includes(block)
      ? "; it always stays"
      : this.remove.includes(block)
        ? "; it always goes"
        : "";
    const warning = m.warnings[block] ? `; ${m.warnings[block]}` : "";
    const click = !strip ? "" : this.draft ? ". Click: removed, put back" : ". Click: stays, goes, free";
    return `Block ${block}${m.kinds.length ? ` (${m.kinds[block]})` : ""}: removed ${often}, own cost ${m.show(m.h(block, block))}${m.unitText}${rule}${warning}${click}.`;
  }

  energyRows() {
    const { model: m, here } = this;
    const unit = m.unitText;
    const pairs = here.energy - here.own;
    const strongest = m.strongestPairs(here.blocks, 2);
    const rows = [
      ["energy E", m.show(here.energy), unit],
      [
        "ΔE",
        here.delta === null ? "–" : significant(here.delta),
        here.rank === undefined
          ? here.below === m.count
            ? "above the list"
            : "not listed"
          : m.onLevel(here.rank) > 1
            ? `×${m.onLevel(here.rank)} on its level`
            : unit,
      ],
    ];
    if (this.spin) {
      const [fields, coupled, offset] = m.spinParts(here);
      const show = (v) => (v < 0 ? "−" : "") + m.show(Math.abs(v));
      rows.push(
        ["fields Σ hᵢsᵢ", show(fields), unit],
        ["pairs Σ Jᵢⱼsᵢsⱼ", show(coupled), "i < j"],
        ["constant", show(offset), unit],
      );
      rows.push(
        ...strongest.map(([i, j, v], n) => [
          n ? "" : "strongest J",
          (v < 0 ? "−" : "+") + m.show(Math.abs(v) / 4),
          `${i}–${j}`,
        ]),
      );
    } else {
      rows.push(
        ["own cost Σ Hᵢᵢ", m.show(here.own), unit],
        ["pairs 2 Σ Hᵢⱼ", (pairs < 0 ? "−" : "+") + m.show(Math.abs(pairs)), "i < j"],
      );
      rows.push(
        ...strongest.map(([i, j, v], n) => [
          n ? "" : "strongest pairs",
          (v < 0 ? "−" : "+") + m.show(Math.abs(v)),
          `${i}–${j}`,
        ]),
      );
    }
    rows.push([
      "Pearson to #0",
      isNaN(here.pearson) ? "–" : plus(here.pearson),
      `${here.changed} of ${m.removed} changed`,
    ]);
    if (here.rank !== undefined && m.ranks[here.rank])
      rows.push(["rank, 95 %", m.ranks[here.rank].join("–"), `of ${m.ranks.length}, bootstrap`]);
    return rows;
  }
  structureRows() {
    const { model: m, here } = this;
    const state = here.blocks;
    const rows = [];
    const sum = (values) => state.reduce((total, b) => total + values[b], 0);
    if (m.parameters.length)
      rows.push([
        "parameters",
        `−${((100 * sum(m.parameters)) / m.total_parameters).toFixed(0)} %`,
        `−${amount(sum(m.parameters))}`,
      ]);
    const kv = m.kv.reduce((a, b) => a + b, 0);
    if (kv)
      rows.push([
        "KV a token",
        `−${((100 * sum(m.kv)) / kv).toFixed(0)} %`,
        `−${amount(sum(m.kv))}B`.replace(" B", "B"),
      ]);
    const runs = runsOf(state);
    const longest = Math.max(...runs.map(([a, b]) => b - a + 1));
    rows.push(["runs", String(runs.length), `longest ${longest}`]);
    const thirds = [0, 0, 0];
    for (const b of state) thirds[Math.min(2, Math.floor((3 * b) / m.blocks))] += 1;
    rows.push(["depth", thirds.join("·"), "of each third"]);
    if (m.kinds.length) {
      const kinds = new Map();
      for (const b of state) kinds.set(m.kinds[b], (kinds.get(m.kinds[b]) || 0) + 1);
      [...kinds].slice(0, 3).forEach(([kind, n], i) => rows.push([i ? "" : "kinds", String(n), kind]));
    }
    const others = this.tray
      .map((name) => name.split("-").map(Number))
      .filter((t) => t.join("-") !== here.name);
    if (others.length) {
      const [best, name] = others
        .map((t) => [m.correlation(state, t), t])
        .reduce((a, b) => (b[0] > a[0] ? b : a));
      const pick = m.index.get(name.join("-"));
      rows.push([
        "Pearson to tray",
        isNaN(best) ? "–" : plus(best),
        `nearest ${pick === undefined ? ranges(name) : "#" + pick}`,
      ]);
    }
    return rows;
  }
  paintCard() {
    const { model: m, here } = this;
    const state = here.blocks;
    const k = here.rank;
    const inTray = this.tray.includes(here.name);
    const rows = this.cardTab === "energy" ? this.energyRows() : this.structureRows();
    if (this.measured.has(here.name)) rows.push(["loss change", ...increase(this.measured.get(here.name))]);
    const chips =
      state.length > 16
        ? element("p", { className: "hash", textContent: ranges(state) })
        : element(
            "div",
            { className: "chips" },
            ...state.map((b) => element("span", { className: "chip", textContent: b })),
          );
    const focused =
      this.card.contains(this.root.getRootNode().activeElement) &&
      this.root.getRootNode().activeElement.textContent;
    const tab = (name, text) => {
      const b = element("button", {
        type: "button",
        className: "tab",
        textContent: text,
        onclick: () => {
          this.cardTab = name;
          this.paintCard();
          this.looked();
        },
      });
      b.setAttribute("aria-pressed", String(this.cardTab === name));
      return b;
    };
    const spin = button(
      this.spin ? "spins" : "x = 1",
      "energies in x (1: removed) or in spins (S)",
      () => this.toggleSpin(),
      "tab",
    );
    spin.setAttribute("aria-pressed", String(this.spin));
    const add = element("button", {
      type: "button",
      className: "primary",
      textContent: inTray ? "Take out" : "Add to tray",
      onclick: () => this.toggle(here.name),
    });
    const term = (text) => {
      const t = element("dt", { textContent: text });
      const about = [...EXPLAINED].find(([word]) => text && text.startsWith(word));
      if (about) {
        t.title = about[1];
        t.className = "explained";
      }
      return t;
    };
    const badge = k === undefined ? "not listed" : k === 0 ? m.first : m.minimum[k] ? "a minimum" : null;
    const keys = element("div", { className: "keys" });
    keys.innerHTML =
      "<kbd>↑</kbd><kbd>↓</kbd> state <kbd>←</kbd><kbd>→</kbd> min <kbd>A</kbd> tray <kbd>P</kbd> prune ";
    keys.append(button("?", "help", () => this.toggleHelp(true)));
    this.card.replaceChildren(
      element(
        "div",
        { className: "row" },
        element("h2", { textContent: k === undefined ? "Unlisted state" : `State #${k}` }),
        badge ? element("span", { className: "badge", textContent: badge }) : null,
        element("span", { className: "hash", textContent: here.hash }),
        this.sheetButton(),
      ),
      chips,
      element(
        "div",
        { className: "tabs" },
        tab("energy", "Energy"),
        tab("structure", "Structure"),
        this.cardTab === "energy" ? spin : null,
      ),
      element(
        "dl",
        {},
        ...rows.flatMap(([t, v, n]) => [
          term(t),
          element("dd", { textContent: v }),
          element("dd", { textContent: n, title: n }),
        ]),
      ),
      element(
        "div",
        { className: "actions" },
        add,
        m.kinds.length ? button("Prune", "prune the model to this state", () => this.prune()) : null,
        button("↑", "previous state", () => this.step(-1)),
        button("↓", "next state", () => this.step(1)),
      ),
      keys,
    );
    if (focused)
      ([...this.card.querySelectorAll("button")].find((b) => b.textContent === focused) ?? add).focus({
        preventScroll: true,
      });
    this.strongest.replaceChildren(
      ...(this.root.classList.contains("narrow")
        ? []
        : [
            element("span", {
              textContent: this.spin ? "strongest Jᵢⱼ in state" : "strongest 2Hᵢⱼ in state",
            }),
          ]),
      ...m.strongestPairs(state).map(([i, j, v]) => {
        const line = element("div", {
          textContent: `${i}–${j} ${signed((this.spin ? v / 4 : v) * m.scale, 2)}`,
        });
        if (this.colours)
          line.style.color = `rgb(${(v > 0 ? this.colours.positive : this.colours.negative).join(",")})`;
        return line;
      }),
    );
  }
  sheetButton() {
    // on a phone the card is a sheet at the bottom: closed it shows the state and what can be done with it
    const open = this.card.classList.contains("open");
    const node = button(
      open ? "less" : "more",
      open ? "less of this state" : "more of this state",
      () => {
        this.card.classList.toggle("open");
        this.paintCard();
      },
      "sheet tab",
    );
    node.setAttribute("aria-expanded", String(open));
    return node;
  }
  paintTray(onlyCurrent = false) {
    const { model: m } = this;
    if (onlyCurrent) {
      this.trayNode
        .querySelectorAll(".pick")
        .forEach((p) => p.classList.toggle("current", p.dataset.name === this.here.name));
      return;
    }
    const spread = this.details.map((d) => d.diversity).filter((d) => d !== null);
    const head = element(
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
    const picks = this.details.map((d) => {
      const name = d.removed.join("-");
      const on = new Set(d.removed);
      const energy = d.delta === null ? `M = ${d.removed.length}` : `ΔE ${significant(d.delta * m.scale)}`;
      const mini = element(
        "div",
        { className: "mini" },
        ...Array.from({ length: m.blocks }, (_, b) => element("i", { className: on.has(b) ? "on" : "" })),
      );
      const pick = element(
        "button",
        { type: "button", className: "pick", onclick: () => this.open(d.removed) },
        element(
          "div",
          { className: "row" },
          element("b", { textContent: d.rank === null ? d.hash : `#${d.rank}` }),
          element("span", { textContent: energy }),
        ),
        mini,
        element("small", {
          textContent: [
            this.measured.has(name) ? `loss ${increase(this.measured.get(name)).join(" ")}` : null,
            d.pearson === null ? null : `Pearson ${d.pearson.toFixed(2)}`,
            d.diversity === null ? null : `diversity ${d.diversity.toFixed(2)}`,
          ]
            .filter(Boolean)
            .join(" · "),
        }),
        d.reason ? element("small", { className: "reason", textContent: d.reason }) : null,
      );
      pick.dataset.name = name;
      pick.classList.toggle("current", name === this.here.name);
      pick.title = `removes ${ranges(d.removed)}${d.reason ? `; ${d.reason}` : ""}`;
      pick.setAttribute(
        "aria-label",
        `${d.rank === null ? "State " + d.hash : "State " + d.rank}, removes ${ranges(d.removed)}${d.reason ? `; ${d.reason}` : ""}`,
      );
      return element(
        "div",
        { className: "picked" },
        pick,
        button(
          "×",
          `take state ${d.rank === null ? d.hash : d.rank} out of the tray`,
          () => this.toggle(name),
          "drop",
        ),
      );
    });
    const marks = this.marks.map((mark) => {
      const row = element(
        "button",
        { type: "button", className: "marked", onclick: () => this.open(mark.removed) },
        element("b", { textContent: mark.label }),
        element("span", {
          textContent:
            mark.delta === null
              ? `M = ${mark.removed.length}`
              : mark.rank !== null
                ? `#${mark.rank}`
                : `ΔE ${signed(mark.delta)}`,
        }),
      );
      row.title = `removes ${ranges(mark.removed)}; ${mark.reason}`;
      row.setAttribute(
        "aria-label",
        `marked: ${mark.label}, ${mark.reason}, removes ${ranges(mark.removed)}`,
      );
      return element(
        "div",
        { className: "picked" },
        row,
        mark.own
          ? button(
              "×",
              `take the mark ${mark.label} away`,
              () => this.send({ ask: "unmark", state: mark.removed }),
              "drop",
            )
          : null,
      );
    });
    const actions = element(
      "div",
      { className: "actions" },
      this.details.length
        ? Object.assign(
            button(
              `Compare ${this.details.length}`,
              `measure and compare ${this.details.length} picked states (Enter)`,
              () => this.compare(),
              "primary",
            ),
          )
        : null,
      button(
        "Pick for me",
        "fill the tray with low states that differ from each other, each with its reason",
        () => this.send({ ask: "pick" }),
      ),
    );
    this.trayNode.replaceChildren(
      head,
      element(
        "div",
        { className: "list", tabIndex: 0 },
        ...(picks.length
          ? picks
          : [
              element("p", {
                className: "empty",
                textContent:
                  "Pick states with A: they stay here side by side, with their Pearson diversity to each other.",
              }),
            ]),
        ...(marks.length ? [element("h3", { textContent: "Marked states" }), ...marks] : []),
      ),
      actions,
    );
    const list = this.trayNode.querySelector(".list");
    list.setAttribute("role", "group");
    list.setAttribute("aria-label", "Picked and marked states");
  }
  close() {
    this.observer.disconnect();
    clearTimeout(this.timer);
    clearTimeout(this.saying);
    cancelAnimationFrame(this.pending);
    document.removeEventListener("keydown", this.everywhere);
    window.removeEventListener("resize", this.resized);
  }
}

const lenses = new WeakMap();

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".lens");
  let lens = lenses.get(root);
  if (!lens) lenses.set(root, (lens = new Lens(root)));
  lens.update(data, setTriggerValue);
  return () => {
    if (!root.isConnected) {
      lens.close();
      lenses.delete(root);
    }
  };
}
