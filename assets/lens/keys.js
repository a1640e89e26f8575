// What each key does.

// with Shift, along the strip: blocks, lanes
const POINTS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const STEPS = { ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, J: 1, K: -1 };

const ACTIONS = {
  ArrowRight: (lens) => lens.nextMinimum(1),
  ArrowLeft: (lens) => lens.nextMinimum(-1),
  b: (lens) => lens.toBarrier(),
  Home: (lens) => lens.select(0, true),
  a: (lens) => lens.toggle(lens.here.name),
  " ": (lens) => lens.toggle(lens.here.name),
  p: (lens) => lens.prune(),
  m: (lens) => lens.compare(),
  Enter: (lens) => lens.compare(),
  f: (lens) => lens.maximise(lens.maximised ?? lens.active),
  s: (lens) => lens.toggleSpin(),
  o: (lens) => lens.matrix.reorder(!lens.matrix.byKind),
  l: (lens) => lens.hovered.strip && lens.press(lens.hovered.unit),
  "/": (lens) => lens.finder.input.focus(),
  "+": (lens) => lens.levels.zoom(0.5),
  "=": (lens) => lens.levels.zoom(0.5),
  "-": (lens) => lens.levels.zoom(2),
  "−": (lens) => lens.levels.zoom(2),
  0: (lens) => lens.levels.reset(),
  "?": (lens) => lens.help.toggle(!lens.help.open),
  Escape: (lens) => {
    if (lens.help.open) lens.help.toggle(false);
    else if (lens.finder.draft) lens.finder.end();
    else if (lens.maximised) lens.maximise(lens.maximised);
  },
};

export const pressed = (lens, e) => {
  if (!lens.model || e.ctrlKey || e.metaKey || e.altKey) return;
  // space and Enter press a focused button
  const inside = e.target !== lens.frame && lens.root.contains(e.composedPath()[0]);
  if (inside && (e.key === " " || e.key === "Enter")) return;
  const action = ACTIONS[e.key.length === 1 ? e.key.toLowerCase() : e.key];
  if (e.shiftKey && POINTS[e.key]) lens.point(...POINTS[e.key]);
  else if (STEPS[e.key]) lens.step(STEPS[e.key]);
  else if (action) action(lens);
  else return;
  e.preventDefault();
  e.stopPropagation();
};
